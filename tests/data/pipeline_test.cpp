#include "cohort/data/pipeline.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <new>
#include <numeric>
#include <set>
#include <thread>

#include "cohort/base/random.hpp"
#include "data/fake_reader.hpp"
#include "support/patience.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The ids (or the images) of one step's global batch, put together from the ranks' parts.
template <class T>
std::vector<T> together(const std::vector<Seen>& parts, std::vector<T> Seen::*what) {
  const auto rows = static_cast<std::size_t>(parts[0].global_samples);
  const std::size_t width = std::is_same_v<T, float> ? 40 : 1;
  std::vector<T> whole(rows * width, T(-1));
  std::size_t filled = 0;
  for (const Seen& part : parts) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(part.samples); ++i) {
      const std::size_t row = static_cast<std::size_t>(part.offset) + i * static_cast<std::size_t>(part.stride);
      std::copy_n((part.*what).begin() + static_cast<std::ptrdiff_t>(i * width), width,
                  whole.begin() + static_cast<std::ptrdiff_t>(row * width));
      ++filled;
    }
  }
  check(filled == rows, Code::internal, "rows missing or twice");
  return whole;
}

std::vector<std::uint32_t> list_of(const EpochOrder& order, std::uint32_t n) {
  std::vector<std::uint32_t> list;
  for (std::uint32_t place = 0; place < n; ++place) list.push_back(order[place]);
  return list;
}

TEST(SampleOrder, IsAPermutationThatDependsOnSeedAndEpochOnly) {
  for (const std::uint32_t n : {0, 1, 2, 97}) {
    SampleOrder order(n, 5, true), same(n, 5, true), other(n, 6, true);
    const auto third = list_of(order.of_epoch(3), n);
    static_cast<void>(same.of_epoch(0));
    EXPECT_EQ(third, list_of(same.of_epoch(3), n)) << "the way there does not matter";
    std::vector<std::uint32_t> sorted = third, all(n);
    std::sort(sorted.begin(), sorted.end());
    std::iota(all.begin(), all.end(), 0u);
    EXPECT_EQ(sorted, all);
    if (n < 10) continue;
    EXPECT_NE(third, all);
    EXPECT_NE(third, list_of(order.of_epoch(4), n));
    EXPECT_NE(third, list_of(other.of_epoch(3), n));
  }
  EXPECT_THAT(list_of(SampleOrder(4, 5, false).of_epoch(7), 4), ElementsAre(0, 1, 2, 3));
}

/// Any sample is as likely in any place: with 4000 epochs of 6 samples each cell counts 667 +- 24.
TEST(SampleOrder, IsUniform) {
  SampleOrder order(6, 1, true);
  std::vector<int> count(36);
  for (int epoch = 0; epoch < 4000; ++epoch) {
    const EpochOrder& permutation = order.of_epoch(epoch);
    for (std::uint32_t place = 0; place < 6; ++place) ++count[place * 6 + permutation[place]];
  }
  for (const int c : count) EXPECT_NEAR(c, 667, 24 * 5);
}

/// Runs that were begun with a list go on in its order.
TEST(SampleOrder, OfAnySizeThatHadAListIsThatList) {
  SampleOrder order(97, 5, true);
  EXPECT_EQ(list_of(order.of_epoch(2), 97), random_permutation(97, 5, stream_of("sample order") + 2));
}

/// Four thousand million samples: their order is there at once, takes no memory, and visits none twice.
TEST(SampleOrder, OfAHugeSetIsNoList) {
  constexpr std::uint32_t kMost = 0xffffffffu;
  SampleOrder order(kMost, 3, true), stored(kMost, 3, false);
  EXPECT_EQ(stored.of_epoch(1)[kMost - 1], kMost - 1);
  std::set<std::uint32_t> first, last;
  for (std::uint32_t place = 0; place < 1000; ++place) {
    EXPECT_TRUE(first.insert(order.of_epoch(0)[place]).second);
    EXPECT_TRUE(first.insert(order.of_epoch(0)[kMost - 1 - place]).second);
    last.insert(order.of_epoch(1)[place]);
  }
  EXPECT_NE(first, last);
  double mean = 0;
  for (const std::uint32_t sample : first) mean += sample / static_cast<double>(first.size());
  EXPECT_NEAR(mean / kMost, 0.5, 5 * 0.29 / std::sqrt(2000)) << "they come from everywhere";
}

TEST(BatchPlan, SharesCoverEveryRowOnceAndDifferByOneAtMost) {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    const BatchPlan plan(options_with(5), ranks);
    EXPECT_EQ(plan.global_batch(), 5 * ranks);
    for (std::int64_t global = 0; global <= plan.global_batch(); ++global) {
      std::multiset<std::int64_t> rows;
      std::int64_t least = global, most = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Share share = plan.share(rank, global);
        for (std::int64_t i = 0; i < share.samples; ++i) rows.insert(share.offset + i * share.stride);
        least = std::min(least, share.samples);
        most = std::max(most, share.samples);
      }
      ASSERT_EQ(rows.size(), static_cast<std::size_t>(global));
      ASSERT_EQ(std::set<std::int64_t>(rows.begin(), rows.end()).size(), rows.size());
      ASSERT_TRUE(rows.empty() || (*rows.begin() == 0 && *rows.rbegin() == global - 1));
      ASSERT_LE(most - least, 1);
    }
  }
}

TEST(BatchPlan, UnequalRanksKeepTheirProportion) {
  PipelineOptions options;
  options.rank_batches = {3, 0, 7, 2};
  const BatchPlan plan(options, 4);
  for (std::int64_t global = 0; global <= 12; ++global) {
    std::int64_t next = 0;
    for (int rank = 0; rank < 4; ++rank) {
      const Share share = plan.share(rank, global);
      EXPECT_EQ(share.offset, next);
      EXPECT_LE(share.samples, options.rank_batches[static_cast<std::size_t>(rank)]);
      next += share.samples;
    }
    EXPECT_EQ(next, global);
  }
  EXPECT_EQ(plan.share(2, 12).samples, 7);
  EXPECT_EQ(plan.share(2, 6).samples, 4);
  EXPECT_THAT(error_of([&] { BatchPlan(options, 3); }), HasSubstr("rank_batches has 4 entries for 3 ranks"));
  options.global_batch = 12;
  EXPECT_THAT(error_of([&] { BatchPlan(options, 4); }), HasSubstr("contradict each other"));
}

TEST(BatchPipeline, RanksTogetherSeeWhatOneRankSees) {
  const auto reader = std::make_shared<FakeReader>(101);   // 12 does not divide it: the last batch has 5 samples
  PipelineOptions one = options_with(12);
  one.augment.crop_padding = 2;
  one.augment.flip = true;
  BatchPipeline alone(reader, one, 0, 1);
  const std::vector<Seen> expected = take(alone, 20);
  for (const int ranks : {2, 3, 4, 5, 7}) {
    PipelineOptions options = one;
    options.global_batch = 12;
    options.threads = ranks % 3;
    std::vector<std::unique_ptr<BatchPipeline>> pipelines;
    for (int rank = 0; rank < ranks; ++rank) {
      pipelines.push_back(std::make_unique<BatchPipeline>(reader, options, rank, ranks));
    }
    for (const Seen& whole : expected) {
      std::vector<Seen> parts;
      for (auto& pipeline : pipelines) {
        parts.push_back(seen(*pipeline->next()));
        ASSERT_EQ(parts.back().global_samples, whole.global_samples);
        ASSERT_EQ(parts.back().last, whole.last);
        ASSERT_EQ(parts.back().step, whole.step);
      }
      ASSERT_EQ(together(parts, &Seen::ids), whole.ids) << ranks << " ranks, step " << whole.step;
      ASSERT_EQ(together(parts, &Seen::images), whole.images) << ranks << " ranks, step " << whole.step;
    }
  }
}

TEST(BatchPipeline, EachSampleOncePerEpochWithZeroShares) {
  const auto reader = std::make_shared<FakeReader>(9);
  std::vector<std::unique_ptr<BatchPipeline>> pipelines;
  for (int rank = 0; rank < 4; ++rank)
    pipelines.push_back(std::make_unique<BatchPipeline>(reader, options_with(2, 1), rank, 4));
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::multiset<std::int64_t> ids;
    for (int step = 0; step < 2; ++step) {   // 8 samples, then 1: three ranks have none
      for (std::size_t rank = 0; rank < 4; ++rank) {
        const SampleBatch& batch = *pipelines[rank]->next();
        EXPECT_EQ(batch.epoch, epoch);
        EXPECT_EQ(batch.samples, step == 0 ? 2 : (rank == 0 ? 1 : 0));
        EXPECT_EQ(batch.global_samples, step == 0 ? 8 : 1);
        EXPECT_EQ(batch["image"].shape(), (Shape{batch.samples, 4, 5, 2}));
        EXPECT_EQ(batch.last_in_epoch, step == 1);
        const auto mine = batch["id"].to_vector<std::int64_t>();
        ids.insert(mine.begin(), mine.end());
      }
    }
    EXPECT_THAT(ids, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
  }
}

TEST(BatchPipeline, UnequalRanksTogetherSeeWhatOneRankSees) {
  const auto reader = std::make_shared<FakeReader>(25);
  PipelineOptions options = options_with(1);
  options.rank_batches = {5, 1, 4};
  BatchPipeline alone(reader, options_with(10), 0, 1), a(reader, options, 0, 3), b(reader, options, 1, 3),
      c(reader, options, 2, 3);
  for (int step = 0; step < 7; ++step) {
    const Seen whole = seen(*alone.next());
    EXPECT_EQ(together({seen(*a.next()), seen(*b.next()), seen(*c.next())}, &Seen::ids), whole.ids);
  }
}

TEST(BatchPipeline, DropLastLeavesTheShortBatchOut) {
  const auto reader = std::make_shared<FakeReader>(10);
  PipelineOptions options = options_with(4, 2);
  options.drop_last = true;
  BatchPipeline pipeline(reader, options, 0, 1);
  EXPECT_EQ(pipeline.steps_per_epoch(), 2);
  for (int i = 0; i < 6; ++i) {
    const SampleBatch& batch = *pipeline.next();
    EXPECT_EQ(batch.samples, 4);
    EXPECT_EQ(batch.epoch, i / 2);
    EXPECT_EQ(batch.step_in_epoch, i % 2);
    EXPECT_EQ(batch.last_in_epoch, i % 2 == 1);
  }
  options.batch = 11;
  EXPECT_THAT(error_of([&] { BatchPipeline(reader, options, 0, 1); }), HasSubstr("only 10 samples"));
}

TEST(BatchPipeline, ThreadsChangeNothing) {
  const auto reader = std::make_shared<FakeReader>(53);
  PipelineOptions options = options_with(4);
  options.augment.crop_padding = 1;
  options.augment.flip = true;
  BatchPipeline alone(reader, options, 0, 1);
  const auto expected = take(alone, 60);
  for (const int threads : {1, 2, 5}) {
    for (const int prefetch : {1, 2, 7}) {
      options.threads = threads;
      options.prefetch = prefetch;
      BatchPipeline pipeline(reader, options, 0, 1);
      ASSERT_EQ(take(pipeline, 60), expected) << threads << " threads, " << prefetch << " ahead";
    }
  }
}

TEST(BatchPipeline, PreparesAheadButNoFurther) {
  const auto reader = std::make_shared<FakeReader>(1000);
  BatchPipeline pipeline(reader, options_with(2, 2), 0, 1);   // 3 ahead
  EXPECT_EQ(reader->reads, 0) << "nothing is read before it is asked for";
  static_cast<void>(pipeline.next());
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(testing::kHung);
  while (reader->reads < 4 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(reader->reads, 4) << "the one in use and 3 more";
}

TEST(BatchPipeline, MemoryIsUsedAgain) {
  const auto reader = std::make_shared<FakeReader>(7);
  for (const int threads : {0, 2}) {
    BatchPipeline pipeline(reader, options_with(3, threads), 0, 1);
    std::set<const void*> images, ids;
    for (int i = 0; i < 50; ++i) {
      const SampleBatch& batch = *pipeline.next();
      images.insert(batch["image"].raw());
      ids.insert(batch["id"].raw());
    }
    EXPECT_EQ(images.size(), threads == 0 ? 1u : 4u);
    EXPECT_EQ(ids.size(), threads == 0 ? 1u : 4u);
  }
}

TEST(BatchPipeline, PositionRestoresTheSameBatches) {
  const auto reader = std::make_shared<FakeReader>(31);
  for (const int threads : {0, 2}) {
    PipelineOptions options = options_with(4, threads);
    options.augment.flip = true;
    BatchPipeline pipeline(reader, options, 0, 1);
    for (const int before : {0, 1, 7, 8, 9, 20}) {   // 8 steps an epoch
      pipeline.rewind();
      take(pipeline, before);
      const Position position = pipeline.position();
      const auto expected = take(pipeline, 10);
      BatchPipeline fresh(reader, options, 0, 1);
      fresh.seek(position);
      EXPECT_EQ(fresh.position(), position);
      EXPECT_EQ(take(fresh, 10), expected) << "after " << before;
      pipeline.seek(position);
      EXPECT_EQ(take(pipeline, 10), expected) << "after " << before << ", seek in a running pipeline";
    }
  }
}

TEST(BatchPipeline, PositionIsThatOfAnyNumberOfRanks) {
  const auto reader = std::make_shared<FakeReader>(31);
  BatchPipeline one(reader, options_with(6), 0, 1);
  take(one, 8);
  PipelineOptions options = options_with(1);
  options.global_batch = 6;
  BatchPipeline a(reader, options, 0, 4), b(reader, options, 1, 4), c(reader, options, 2, 4), d(reader, options, 3, 4);
  for (BatchPipeline* rank : {&a, &b, &c, &d}) rank->seek(one.position());
  for (int step = 0; step < 9; ++step) {
    const Seen whole = seen(*one.next());
    EXPECT_EQ(together({seen(*a.next()), seen(*b.next()), seen(*c.next()), seen(*d.next())}, &Seen::ids), whole.ids);
    EXPECT_EQ(a.position(), one.position());
  }
}

TEST(BatchPipeline, AnotherBatchSizeGoesOnWhereTheOldOneStopped) {
  const auto reader = std::make_shared<FakeReader>(31);
  BatchPipeline before(reader, options_with(6), 0, 1), after(reader, options_with(4), 0, 1);
  std::multiset<std::int64_t> ids;
  for (const Seen& batch : take(before, 2)) ids.insert(batch.ids.begin(), batch.ids.end());
  after.seek(before.position());
  for (bool last = false; !last;) {
    const Seen batch = seen(*after.next());
    ids.insert(batch.ids.begin(), batch.ids.end());
    last = batch.last;
  }
  EXPECT_EQ(ids.size(), 31u);
  EXPECT_EQ(std::set<std::int64_t>(ids.begin(), ids.end()).size(), 31u);
  EXPECT_EQ(after.position(), (Position{1, 0}));
  EXPECT_THAT(error_of([&] { after.seek({0, 32}); }), HasSubstr("data position epoch 0, sample 32 in a set of 31 samples"));
  EXPECT_THAT(error_of([&] { after.seek({-1, 0}); }), HasSubstr("data position epoch -1"));
  after.seek({0, 31});   // the end of an epoch is the start of the next
  EXPECT_EQ(after.position(), (Position{1, 0}));
}

TEST(BatchPipeline, EvaluationGoesOnceInOrderAndNotChanged) {
  const auto reader = std::make_shared<FakeReader>(11);
  PipelineOptions options = options_with(2, 2);
  options.drop_last = true;
  options.augment.flip = true;
  options.augment.crop_padding = 3;
  std::vector<std::unique_ptr<BatchPipeline>> pipelines;
  for (int rank = 0; rank < 2; ++rank) {
    pipelines.push_back(std::make_unique<BatchPipeline>(reader, options, rank, 2, BatchUse::evaluation));
  }
  for (int round = 0; round < 2; ++round) {
    std::vector<std::int64_t> ids;
    for (int step = 0; step < 3; ++step) {
      const Seen a = seen(*pipelines[0]->next()), b = seen(*pipelines[1]->next());
      for (const std::int64_t id : together({a, b}, &Seen::ids)) ids.push_back(id);
      for (std::size_t i = 0; i < a.images.size(); ++i) {
        EXPECT_EQ(a.images[i], 1000.f * static_cast<float>(a.ids[i / 40]) + static_cast<float>(i % 40));
      }
    }
    EXPECT_THAT(ids, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    for (auto& pipeline : pipelines) {
      EXPECT_EQ(pipeline->next(), nullptr);
      EXPECT_EQ(pipeline->next(), nullptr);
      pipeline->rewind();
    }
  }
  BatchPipeline nothing(std::make_shared<FakeReader>(0), options, 0, 1, BatchUse::evaluation);
  EXPECT_EQ(nothing.next(), nullptr);
  EXPECT_THAT(error_of([&] { BatchPipeline(std::make_shared<FakeReader>(0), options, 0, 1); }),
              HasSubstr("no samples to train with"));
}

TEST(BatchPipeline, AnErrorComesInThePlaceOfItsBatchAndStays) {
  for (const int threads : {0, 1, 3}) {
    const auto reader = std::make_shared<FakeReader>(40);
    PipelineOptions options = options_with(4, threads);
    options.shuffle = false;
    reader->fails_at = 13;
    BatchPipeline pipeline(reader, options, 0, 1);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(seen(*pipeline.next()).ids.front(), 4 * i);
    for (int again = 0; again < 3; ++again) {
      EXPECT_EQ(error_of([&] { static_cast<void>(pipeline.next()); }), "set.bin: sample 13 is damaged") << threads;
    }
    EXPECT_EQ(pipeline.position(), (Position{0, 12})) << "the batch that failed was not given";
    reader->fails_at = 0xffffffffu;
    pipeline.seek(pipeline.position());
    EXPECT_EQ(seen(*pipeline.next()).ids.front(), 12) << "a seek begins anew";
  }
}

/// No more address space than the process has now, and some for a thread's stack.
class LittleMemory {
 public:
  LittleMemory() {
    getrlimit(RLIMIT_AS, &before_);
    std::int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit now{static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + (48 << 20)), before_.rlim_max};
    setrlimit(RLIMIT_AS, &now);
  }
  ~LittleMemory() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};

/// The list of an epoch's order is made by the threads as well: where there is no memory for it, the process must not end.
TEST(BatchPipeline, WithoutMemoryForAnOrderItIsAnErrorInThePlaceOfTheBatch) {
  if (COHORT_BRIEF) GTEST_SKIP() << "sanitizers take address space without end";
  const auto reader = std::make_shared<FakeReader>(SampleOrder::kMostListed);
  for (const int threads : {0, 1}) {
    BatchPipeline pipeline(reader, options_with(2, threads), 0, 1);
    {
      const LittleMemory limit;
      EXPECT_THROW(static_cast<void>(pipeline.next()), std::bad_alloc) << threads;
    }
    pipeline.seek({});
    SampleOrder order(reader->size(), options_with(2).seed, true);
    EXPECT_THAT(seen(*pipeline.next()).ids, ElementsAre(order.of_epoch(0)[0], order.of_epoch(0)[1])) << threads;
  }
}

TEST(BatchPipeline, StopsAtAnyMoment) {
  const auto reader = std::make_shared<FakeReader>(1000);
  reader->delay_ms = 2;
  for (int round = 0; round < 30; ++round) {
    BatchPipeline pipeline(reader, options_with(2, 1 + round % 4), 0, 1);
    for (int i = 0; i < round % 5; ++i) static_cast<void>(pipeline.next());
    if (round % 7 == 3) pipeline.seek({2, 100});
    if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(round % 6));
  }
}

TEST(BatchPipeline, ThreadsReadAtTheSameTime) {
  for (const int threads : {1, 4}) {
    const auto reader = std::make_shared<FakeReader>(1000);
    reader->delay_ms = 5;
    PipelineOptions options = options_with(2, threads);
    options.prefetch = 8;
    BatchPipeline pipeline(reader, options, 0, 1);
    for (int i = 0; i < 40; ++i) static_cast<void>(pipeline.next());
    EXPECT_EQ(reader->most_at_once > 1, threads > 1) << "a slow reader is waited for by several threads at once";
  }
}

TEST(PipelineOptions, AreBoundInASection) {
  Section section("pipeline");
  section.set("batch", {std::int64_t{12}, "job.toml:3"});
  section.set("rank_batches", {OptionList{{std::int64_t{1}, ""}, {std::int64_t{2}, ""}}, "job.toml:4"});
  section.add_child_entry("augment").set("flip", {true, "job.toml:7"});
  const PipelineOptions options(section);
  section.finish();
  EXPECT_EQ(options.batch, 12);
  EXPECT_THAT(options.rank_batches, ElementsAre(1, 2));
  EXPECT_TRUE(options.augment.flip);
  Section wrong("pipeline");
  wrong.set("batch", {std::int64_t{0}, "job.toml:3"});
  EXPECT_THAT(error_of([&] { PipelineOptions{wrong}; }), HasSubstr("job.toml:3: pipeline.batch = 0"));
}

TEST(SampleBatch, AnUnknownFieldIsNamedWithTheKnown) {
  BatchPipeline pipeline(std::make_shared<FakeReader>(4), options_with(2), 0, 1);
  const SampleBatch& batch = *pipeline.next();
  EXPECT_THAT(error_of([&] { static_cast<void>(batch["imag"]); }),
              HasSubstr("unknown field of the batch 'imag', did you mean 'image'? Known: image id"));
}

}  // namespace
}  // namespace cohort
