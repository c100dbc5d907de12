// The parts of an exchange that need no other rank: what a bucket waits for, which buffer it gets, what a lossy codec still owes.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cohort/base/random.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "exchange/bucket_buffers.hpp"
#include "exchange/bucketizer.hpp"
#include "exchange/error_feedback.hpp"
#include "exchange/gradient_accumulator.hpp"
#include "exchange/layout.hpp"
#include "exchange/scalar_sum.hpp"
#include "support/patience.hpp"

namespace cohort {
namespace {

using testing::Layout;

/// Buckets of so many elements at most.
ExchangeOptions buckets_of(std::int64_t elements) {
  ExchangeOptions options;
  options.first_bucket_mib = options.bucket_mib = static_cast<double>(elements) * sizeof(float) / (1 << 20);
  return options;
}

TEST(Bucketizer, CutsBetweenParametersAndBeforeSmallOnes) {
  Layout layout({1000, 300, 2000, 100, 100}, 200);
  const Bucketizer buckets(layout.places(), buckets_of(1600));
  ASSERT_EQ(buckets.size(), 3u);                   // 1024 + 512, 2048 alone, then the small ones
  EXPECT_EQ(buckets.bucket_of(0), 0u);
  EXPECT_EQ(buckets.bucket_of(1), 0u);
  EXPECT_EQ(buckets.bucket_of(2), 1u);
  EXPECT_EQ(buckets.bucket_of(3), 2u);
  EXPECT_EQ(buckets.bucket_of(4), 2u);
  EXPECT_FALSE(buckets.is_small(1));
  EXPECT_TRUE(buckets.is_small(2));
  std::int64_t end = 0;
  for (const FlatRange& range : buckets.ranges()) {
    EXPECT_EQ(range.begin, end);
    end = range.end();
  }
  EXPECT_EQ(end, layout.places().flat_size());
}

TEST(Bucketizer, LaunchesInItsOrderWhateverTheOrderOfTheGradients) {
  Layout layout({256, 256, 256, 256});
  Bucketizer buckets(layout.places(), buckets_of(512));
  ASSERT_EQ(buckets.size(), 2u);
  std::size_t next = 9;
  for (int batch = 0; batch < 2; ++batch) {
    buckets.begin();
    EXPECT_TRUE(buckets.idle());
    EXPECT_FALSE(buckets.arrive(3));
    EXPECT_FALSE(buckets.arrive(2)) << "the last bucket waits for the end of the batch as well";
    EXPECT_FALSE(buckets.arrive(1));
    EXPECT_FALSE(buckets.take_next(next));
    EXPECT_TRUE(buckets.arrive(0));
    EXPECT_FALSE(buckets.idle());
    EXPECT_TRUE(buckets.complete_up_to(0));
    EXPECT_FALSE(buckets.complete_up_to(1));
    ASSERT_TRUE(buckets.take_next(next));
    EXPECT_EQ(next, 0u);
    EXPECT_FALSE(buckets.take_next(next));
    buckets.end();
    ASSERT_TRUE(buckets.take_next(next));
    EXPECT_EQ(next, 1u);
    EXPECT_TRUE(buckets.all_launched());
    EXPECT_FALSE(buckets.take_next(next));
  }
}

TEST(Bucketizer, SaysWhatComesTwiceOrIsMissing) {
  Layout layout({256, 256});
  Bucketizer buckets(layout.places(), buckets_of(256));
  buckets.begin();
  buckets.check_missing(0);
  (void)buckets.arrive(0);
  EXPECT_THROW(buckets.check_missing(0), Error);
  EXPECT_THROW(buckets.end(), Error);
}

TEST(Bucketizer, HasOneBucketForNoParameters) {
  Layout layout({});
  Bucketizer buckets(layout.places(), buckets_of(256));
  ASSERT_EQ(buckets.size(), 1u);
  EXPECT_EQ(buckets.ranges()[0].n, 0);
  buckets.begin();
  buckets.end();
  std::size_t next = 9;
  EXPECT_TRUE(buckets.take_next(next));
}

TEST(BucketBuffers, TakeTurnsInTwoWhereGradientsComeBucketByBucket) {
  Layout layout({256, 256, 256, 256, 256});
  Bucketizer buckets(layout.places(), buckets_of(256));
  BucketBuffers buffers(buckets);
  EXPECT_EQ(buffers.assign(std::vector<std::size_t>{0, 1, 2, 3, 4}), 2u);
  for (std::size_t b = 0; b < 5; ++b) EXPECT_EQ(buffers.buffer_of(b), b % 2);
  for (int batch = 0; batch < 2; ++batch) {
    buckets.begin();
    buffers.begin();
    for (std::size_t b = 0; b < 5; ++b) {
      const std::optional<std::size_t> before = buffers.take(b);
      EXPECT_EQ(before, b < 2 ? std::nullopt : std::optional(b - 2));
      EXPECT_FALSE(buffers.take(b)) << "it is there";
      (void)buckets.arrive(b);
    }
  }
}

TEST(BucketBuffers, AreAsManyAsBucketsThatWaitForGradientsAtOnce) {
  Layout layout({256, 256, 256, 256, 256, 256});
  Bucketizer buckets(layout.places(), buckets_of(512));
  BucketBuffers buffers(buckets);
  EXPECT_EQ(buffers.assign(std::vector<std::size_t>{4, 2, 0, 1, 3, 5}), 3u);
  EXPECT_EQ(buffers.buffer_of(2), 0u);
  EXPECT_EQ(buffers.buffer_of(1), 1u);
  EXPECT_EQ(buffers.buffer_of(0), 2u);
}

TEST(BucketBuffers, RefuseAnotherOrder) {
  Layout layout({256, 256, 256});
  Bucketizer buckets(layout.places(), buckets_of(256));
  BucketBuffers buffers(buckets);
  EXPECT_EQ(buffers.assign(std::vector<std::size_t>{0, 1, 2}), 2u);
  buckets.begin();
  buffers.begin();
  (void)buffers.take(0);
  EXPECT_THROW((void)buffers.take(2), Error) << "bucket 0 is not complete, and lies there";
}

TEST(StepScalars, TravelInOneOrder) {
  StepScalars scalars{.loss = 1, .stop = 2, .metrics = {3, 4}};
  scalars.metrics.back() = 5;
  const auto numbers = scalars.numbers();
  ASSERT_EQ(numbers.size(), 16u);
  EXPECT_EQ(numbers[0], 1);
  EXPECT_EQ(numbers[1], 2);
  EXPECT_EQ(numbers[2], 3);
  EXPECT_EQ(numbers[3], 4);
  EXPECT_EQ(numbers[15], 5);
  const StepScalarsOf<double> wide = scalars_as<double>(scalars);
  EXPECT_EQ(wide.loss, 1);
  EXPECT_EQ(wide.stop, 2);
  EXPECT_EQ(wide.metrics.back(), 5);
}

TEST(StepScalars, AreSummedByThemselves) {
  for (const int ranks : {1, 2, 3, 4}) {
    run_as_threads(ranks, [&](Communicator& c) {
      ScalarSum sum(c, {}, 7);
      for (std::int64_t step = 0; step < 2; ++step) {
        sum.set({.loss = static_cast<float>(c.rank() + 1), .stop = c.rank() == 0 ? 1.f : 0.f, .metrics = {2}});
        sum.start(step);
        const StepScalars& all = sum.wait();
        EXPECT_EQ(all.loss, static_cast<float>(ranks * (ranks + 1) / 2));
        EXPECT_EQ(all.stop, 1);
        EXPECT_EQ(all.metrics[0], static_cast<float>(2 * ranks));
        EXPECT_EQ(all.metrics[13], 0);
      }
    }, {.timeout = testing::kHung});
  }
}

/// A gradient of one bucket that passes through int8 with error feedback, step by step.
class Feedback : public ::testing::Test {
 protected:
  Feedback() : layout_({kElements}), feedback_(layout_.places(), std::vector<FlatRange>{{0, layout_.places().flat_size()}}) { feedback_.add_residual(0); }

  static constexpr std::int64_t kElements = 1021;

  [[nodiscard]] std::vector<float> gradient(std::uint64_t step) const {
    std::vector<float> g(static_cast<std::size_t>(layout_.parameters_size()));
    for (std::size_t i = 0; i < static_cast<std::size_t>(kElements); ++i) g[i] = random_normal(5, step, i);
    return g;
  }
  [[nodiscard]] std::vector<float> residual() { return {feedback_.residual(0), feedback_.residual(0) + layout_.parameters_size()}; }
  /// What arrives of a gradient.
  std::vector<float> sent(std::vector<float> g, bool compressed) {
    feedback_.begin(compressed);
    feedback_.before_launch(0, g.data());
    if (compressed) {
      const auto codec = codec_named("int8");
      std::vector<std::byte> wire(codec->wire_bytes(g.size()));
      codec->encode(g.data(), g.size(), wire.data(), feedback_.residual(0), {});
      codec->decode(wire.data(), g.size(), g.data(), Accumulate::assign, {});
    }
    feedback_.end();
    return g;
  }

  struct Sized : Layout {
    using Layout::Layout;
    [[nodiscard]] std::int64_t parameters_size() const { return places().flat_size(); }
  };
  Sized layout_;
  ErrorFeedback feedback_;
};

TEST_F(Feedback, LosesNothingFromStepToStep) {
  double most = 0;
  for (std::uint64_t step = 0; step < 4; ++step) {
    const std::vector<float> before = residual(), g = gradient(step), out = sent(g, true), after = residual();
    for (std::size_t i = 0; i < g.size(); ++i) {
      ASSERT_NEAR(g[i] + before[i], out[i] + after[i], 1e-6) << step;
      most = std::max(most, static_cast<double>(std::fabs(after[i])));
    }
  }
  EXPECT_GT(most, 1e-3) << "nothing was kept";
}

TEST_F(Feedback, TakesBackWhatASkippedStepWouldHaveDelivered) {
  (void)sent(gradient(0), true);
  const std::vector<float> kept = residual();
  (void)sent(gradient(1), true);
  EXPECT_NE(residual(), kept);
  feedback_.take_back();
  EXPECT_EQ(residual(), kept);
  (void)sent(gradient(2), false);
  feedback_.take_back();
  EXPECT_EQ(residual(), kept) << "a step in float32 delivers nothing";
}

TEST_F(Feedback, DeliversAllInOneStepInFloat32) {
  (void)sent(gradient(0), true);
  const std::vector<float> late = residual(), g = gradient(1);
  feedback_.flush_residuals();
  EXPECT_TRUE(feedback_.flushes());
  const std::vector<float> out = sent(g, false);
  for (std::size_t i = 0; i < g.size(); ++i) ASSERT_EQ(out[i], g[i] + late[i]);
  for (const float x : residual()) ASSERT_EQ(x, 0);
  EXPECT_FALSE(feedback_.flushes());
  feedback_.take_back();
  EXPECT_EQ(residual(), late);
  EXPECT_TRUE(feedback_.flushes()) << "the step was skipped, so they are to be delivered yet";
}

TEST_F(Feedback, SavesOnceHoweverManyBatchesAStepHas) {
  (void)sent(gradient(0), true);
  const std::vector<float> late = residual();
  feedback_.flush_residuals();
  feedback_.begin(false);
  std::vector<float> first = gradient(1), second = gradient(2);
  feedback_.before_launch(0, first.data());
  feedback_.before_launch(0, second.data());
  feedback_.end();
  EXPECT_EQ(second, gradient(2)) << "residuals are delivered once";
  feedback_.take_back();
  EXPECT_EQ(residual(), late);
}

TEST(GradientAccumulator, AddsUpTheBatchesOfAnUpdate) {
  Layout layout({5, 257});
  const ParameterLayout& places = layout.places();
  const GradientStore store(places, layout.session().device(), std::vector<FlatRange>{{0, places.flat_size()}});
  GradientAccumulator accumulator(places, store);
  for (int update = 0; update < 2; ++update) {
    for (int batch = 0; batch < 3; ++batch) {
      accumulator.begin_batch(batch == 2);
      for (std::size_t p = 0; p < 2; ++p) {
        const Shape& shape = places.trained()[p].shape;
        store.gradient(p).copy_from(Tensor::of(shape, std::vector<float>(static_cast<std::size_t>(shape.elements()), static_cast<float>(batch + 1))));
        EXPECT_EQ(accumulator.complete(p), batch == 2);
      }
      accumulator.end_batch();
    }
    for (std::size_t p = 0; p < 2; ++p) {
      for (const float x : store.gradient(p).to_vector<float>()) EXPECT_EQ(x, 6);
    }
    EXPECT_EQ(store.sum_of_squares(), 36.0 * (5 + 257));
    accumulator.clear();
  }
  store.zero();
  EXPECT_EQ(store.sum_of_squares(), 0);
}

}  // namespace
}  // namespace cohort
