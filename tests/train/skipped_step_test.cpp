// A step that is skipped because something in it is not a number changes nothing at all: training goes on as if its samples
// had never been there. Checked against a run whose data lack them, bit by bit, for every updater and codec.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "cohort/data/reader.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_same_bits;
using testing::Options;
using testing::TemporaryFolder;
using testing::tensors_of;
using testing::train_with;
using testing::with;

constexpr bool kBrief = COHORT_BRIEF;
constexpr std::int64_t kFeatures = 6;

float bad_value(const std::string& kind, std::int64_t sample) {
  if (kind == "nan") return std::numeric_limits<float>::quiet_NaN();
  if (kind == "inf") return std::numeric_limits<float>::infinity();
  if (kind == "large") return 1e7f;            // beyond what fp16 can say, as the gradients are that follow
  return sample / 2 % 2 == 0 ? 1e30f : -1e30f;   // numbers, but their squares are none
}

/// Six numbers and a class, in an order that never changes. Samples [bad_from, bad_until) have a value that is bad, or, with
/// `leave_out`, are not there at all.
class HoleReader final : public Reader {
 public:
  explicit HoleReader(Section& section) {
    section.bind("samples", samples_, "with those that are left out");
    section.bind("bad_from", from_, "");
    section.bind("bad_until", until_, "");
    section.bind("bad", bad_, "nan, inf, large or huge");
    section.bind("leave_out", leave_out_, "");
  }
  std::int64_t size() const override { return leave_out_ ? samples_ - (until_ - from_) : samples_; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      std::int64_t at = samples[i];
      if (leave_out_ && at >= from_) at += until_ - from_;
      float* const x = static_cast<float*>(buffers[0]) + static_cast<std::int64_t>(i) * kFeatures;
      for (std::int64_t k = 0; k < kFeatures; ++k) x[k] = value(at, k);
      if (!leave_out_ && at >= from_ && at < until_) x[1] = bad_value(bad_, at);
      static_cast<std::int32_t*>(buffers[1])[i] = static_cast<std::int32_t>(at % 4);
    }
  }
  static float value(std::int64_t sample, std::int64_t k) {
    return static_cast<float>(std::sin(1.7 * static_cast<double>(sample) + 0.9 * static_cast<double>(k)) +
                              0.1 * static_cast<double>(k));
  }

 private:
  std::int64_t samples_ = 0, from_ = 0, until_ = 0;
  std::string bad_ = "nan";
  bool leave_out_ = false;
  std::vector<Field> fields_{{"x", DType::float32, {kFeatures}}, {"label", DType::int32, {}}};
};
const Registered<ReaderType> hole_reader{"test_holes", {[](Section& s) { return std::make_unique<HoleReader>(s); }}};

/// Everything that a forward pass may write: running statistics before and behind trained layers, and a variable that is
/// assigned.
Model norms(Graph& g, const Batch& b, bool over_replicas) {
  const nn::BatchNormOptions options{.relu = true, .over_replicas = over_replicas};
  Value h = nn::batch_norm(b["x"], b.training, "norm_in", {.over_replicas = over_replicas});
  h = nn::batch_norm(nn::dense(h, 40, "first"), b.training, "norm", options);
  if (b.training) {
    const Value last = g.variable("last_mean", {40}, "zeros", 1.0, false);
    g.add_update(g.add("Assign", {last, mean(h, {0})}, {}, "last_mean_update"));
  }
  return classifier(b, nn::dense(relu(nn::dense(h, 24, "second")), 4, "third"));
}
const Registered<ModelType> local_norms{"test_norms", {[](Section&) -> ModelBuilder {
                                          return [](Graph& g, const Batch& b) { return norms(g, b, false); };
                                        }}};
const Registered<ModelType> joint_norms{"test_joint_norms", {[](Section&) -> ModelBuilder {
                                          return [](Graph& g, const Batch& b) { return norms(g, b, true); };
                                        }}};

const Registered<ModelType> plain{"test_plain", {[](Section&) -> ModelBuilder {
                                    return [](Graph&, const Batch& b) {
                                      return classifier(b, nn::dense(nn::dense(b["x"], 40, "first"), 4, "second"));
                                    };
                                  }}};

/// One way to train, with `workers` that have samples.
struct Way {
  std::string name;
  int ranks = 1, workers = 1;
  Options options{};
  bool apart = false;                        // each rank on a machine of its own
  bool shared = false;                       // one sample is enough: all ranks judge alike
};

std::vector<Way> ways() {
  const auto updater = [](const std::string& name, const Options& more = {}) {
    return with({{"train.updater", name}}, more);
  };
  std::vector<Way> all;
  for (const int p : {1, 2, 3}) {
    const std::string on = " on " + std::to_string(p);
    all.push_back({"sync_replicas" + on, p, p, updater("sync_replicas"), false, true});
    all.push_back({"local_sgd" + on, p, p, updater("local_sgd", {{"updater.average_every", std::int64_t{1}}})});
    for (const std::int64_t stage : {1, 2, 3}) {
      all.push_back(
          {"stage " + std::to_string(stage) + on, p, p, updater("sharded", {{"updater.stage", stage}}), false, true});
    }
  }
  all.push_back({"sync_replicas without sharing", 3, 3, updater("sync_replicas", {{"exchange.shared_parameters", false}}),
                 false, true});
  all.push_back({"sync_with_backups", 3, 3, updater("sync_with_backups"), false, true});
  all.push_back(
      {"sync_with_backups, two tasks", 4, 2, updater("sync_with_backups", {{"cluster.ps", std::int64_t{2}}}), false, true});
  all.push_back(
      {"sync_with_backups, two gradients a worker", 2, 1,
       updater("sync_with_backups", {{"cluster.ps", std::int64_t{1}}, {"updater.replicas_to_aggregate", std::int64_t{2}}}),
       false, true});
  all.push_back({"async", 1, 1, updater("async")});
  all.push_back({"async, a task", 2, 1, updater("async", {{"cluster.ps", std::int64_t{1}}})});
  const Options replay = {{"updater.schedule", std::string("replay")}};
  all.push_back({"replay of async", 1, 1, updater("async", with(replay, {{"updater.replay.learners", std::int64_t{1}}}))});
  all.push_back({"replay of sync_with_backups", 1, 2,
                 updater("sync_with_backups", with(replay, {{"updater.replay.learners", std::int64_t{2}}})), false, true});
  const std::size_t exact = all.size();
  for (const std::string codec : {"int8", "bf16", "fp16"}) {
    for (std::size_t i = 0; i < exact; ++i) {
      Way way = all[i];
      if (way.ranks == 1 || way.name.starts_with("local_sgd") || way.name.starts_with("replay")) continue;
      way.name += " with " + codec;
      way.apart = true;
      way.options = with(way.options, {{"exchange.codec", codec},
                                       {"exchange.algorithm", std::string("direct")},
                                       {"exchange.error_feedback", std::string("on")},
                                       {"exchange.dense_steps", std::int64_t{0}},
                                       {"exchange.small_elements", std::int64_t{64}}});
      all.push_back(way);
    }
  }
  return all;
}

/// Those that fit; under sanitizers, where a step takes ten times as long, one of `every` of them, the first included.
template <class Fits>
std::vector<Way> ways(std::size_t every, Fits fits) {
  std::vector<Way> some;
  std::size_t met = 0;
  for (const Way& way : ways()) {
    if (fits(way) && (met++ % every == 0 || !kBrief)) some.push_back(way);
  }
  return some;
}

class SkippedStep : public ::testing::Test {
 protected:
  static constexpr std::int64_t kBatch = 4, kUpdates = 7, kBadUpdate = 3;

  /// `accumulate` batches make an update; the last one is short.
  [[nodiscard]] Options options(const Way& way, std::int64_t accumulate, const std::string& bad) const {
    const bool two_each = way.name.find("two gradients") != std::string::npos;
    const std::int64_t update = kBatch * way.workers * accumulate * (two_each ? 2 : 1), first = kBadUpdate * update;
    return with({{"train.directory", (folder_.path() / "run").string()},
                 {"model.type", std::string("test_norms")},
                 {"train.epochs", std::int64_t{1}},
                 {"train.threads", std::int64_t{1}},
                 {"train.accumulate", accumulate},
                 {"train.deterministic", deterministic(way)},
                 {"data.train.reader", std::string("test_holes")},
                 {"data.train.samples", kUpdates * update - 3},
                 {"data.train.bad", bad},
                 {"data.train.bad_from", first},
                 {"data.train.bad_until", first + update},
                 {"data.batch", kBatch},
                 {"data.shuffle", false},
                 {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("adam")},
                 {"schedule.learning_rate", 0.01},
                 {"exchange.first_bucket_mib", 0.0005},
                 {"exchange.bucket_mib", 0.001},
                 {"checkpoint.keep", std::int64_t{3}}},
                way.options);
  }
  /// Where the option is accepted. Without it these ways have one worker, so the order of their sums is one all the same.
  [[nodiscard]] static bool deterministic(const Way& way) {
    return way.name.starts_with("replay") ||
           (way.name.find("async") == std::string::npos && way.name.find("two gradients") == std::string::npos);
  }
  [[nodiscard]] static std::vector<int> nodes(const Way& way) {
    std::vector<int> labels(static_cast<std::size_t>(way.ranks), 0);
    if (way.apart) std::iota(labels.begin(), labels.end(), 0);
    return labels;
  }

  static void expect_as_if_left_out(const Way& way, const Options& all) {
    const TrainResult result = train_with(way.ranks, all, {}, nodes(way));
    const TrainResult without = train_with(way.ranks, with(all, {{"data.train.leave_out", true}}), {}, nodes(way));
    EXPECT_EQ(result.skipped, 1);
    EXPECT_EQ(without.skipped, 0);
    for (const auto& [name, values] : tensors_of(result.checkpoint)) {
      for (const float value : values) ASSERT_TRUE(std::isfinite(value)) << name;
    }
    expect_same_bits(result.checkpoint, without.checkpoint);
  }

  TemporaryFolder folder_;
};

TEST_F(SkippedStep, ChangesNothingWithEveryUpdaterAndCodec) {
  const auto sixteen_bits = [](const Way& way) { return way.name.find("16") != std::string::npos; };
  std::size_t i = 0;
  for (const Way& way : ways(5, [&](const Way& w) { return !sixteen_bits(w) || w.ranks != 2; })) {
    ++i;
    for (const std::int64_t accumulate : {1, 2}) {
      if (accumulate == 2 && sixteen_bits(way)) continue;
      if (kBrief && (static_cast<std::size_t>(accumulate) + i) % 2 == 0) continue;
      SCOPED_TRACE(way.name + ", accumulate " + std::to_string(accumulate));
      expect_as_if_left_out(way, options(way, accumulate, i % 2 == 0 ? "nan" : "inf"));
    }
  }
}

/// One bad sample on one rank: the others have finite samples, and forget them as well.
TEST_F(SkippedStep, IsSkippedOnRanksWhoseOwnSamplesAreGood) {
  const auto fits = [](const Way& way) {
    return way.shared && (!way.apart || (way.name.find("int8") != std::string::npos && way.ranks != 2));
  };
  for (const Way& way : ways(6, fits)) {
    for (const std::int64_t at : {0, 5}) {
      const Options whole = options(way, 1, "nan");
      const std::int64_t from = std::get<std::int64_t>(whole.at("data.train.bad_from")),
                         until = std::get<std::int64_t>(whole.at("data.train.bad_until"));
      if (from + at >= until) continue;
      SCOPED_TRACE(way.name + ", sample " + std::to_string(at) + " of the batch");
      const TrainResult without = train_with(way.ranks, with(whole, {{"data.train.leave_out", true}}), {}, nodes(way));
      const TrainResult one = train_with(
          way.ranks, with(whole, {{"data.train.bad_from", from + at}, {"data.train.bad_until", from + at + 1}}), {},
          nodes(way));
      EXPECT_EQ(one.skipped, 1);
      expect_same_bits(one.checkpoint, without.checkpoint);
    }
  }
}

TEST_F(SkippedStep, ChangesNoStatisticsOverAllRanks) {
  const auto fits = [](const Way& way) {
    return !way.apart && way.name.find("sync_with") == std::string::npos && way.name.find("async") == std::string::npos &&
           !way.name.starts_with("local");
  };
  for (const Way& way : ways(4, fits)) {
    SCOPED_TRACE(way.name);
    expect_as_if_left_out(way, with(options(way, 2, "nan"), {{"model.type", std::string("test_joint_norms")}}));
  }
}

/// A number whose square is none has a variance that is none: nothing could be divided by it, and it would never leave the
/// running statistics.
TEST_F(SkippedStep, AVarianceBeyondAllNumbersIsNoNumber) {
  for (const Way& way : ways(5, [](const Way& w) { return !w.apart && w.ranks != 2; })) {
    SCOPED_TRACE(way.name);
    expect_as_if_left_out(way, options(way, 1, "huge"));
  }
}

/// Finite where it is made, infinite where it arrives: that of a worker which nobody waits for as well.
TEST_F(SkippedStep, AGradientThatItsCodecCannotCarryIsNone) {
  for (const Way& way : ways(2, [](const Way& w) { return w.name.find("fp16") != std::string::npos && w.ranks != 3; })) {
    SCOPED_TRACE(way.name);
    expect_as_if_left_out(way, with(options(way, 1, "large"), {{"model.type", std::string("test_plain")}}));
  }
}

/// Between two averages of local updates each rank does without its own, its statistics included. Those of the first layer
/// depend on the samples alone, so they can be told beforehand.
TEST_F(SkippedStep, ALocalUpdateIsSkippedWithItsStatistics) {
  constexpr int kRanks = 3;
  const Way way{"local_sgd",
                kRanks,
                kRanks,
                {{"train.updater", std::string("local_sgd")}, {"updater.average_every", std::int64_t{4}}}};
  const std::int64_t bad = kBadUpdate * kBatch * kRanks + 1;                 // rank 1's first: ranks take samples in turn
  const TrainResult result =
      train_with(kRanks, with(options(way, 1, "nan"), {{"data.train.samples", kUpdates * kBatch * kRanks},
                                                       {"data.train.bad_from", bad},
                                                       {"data.train.bad_until", bad + 1}}));
  EXPECT_EQ(result.skipped, 1);
  const std::vector<float> running = tensors_of(result.checkpoint).at("/statistics/norm_in/running_mean");
  for (std::int64_t k = 0; k < kFeatures; ++k) {
    double sum = 0;
    for (std::int64_t rank = 0; rank < kRanks; ++rank) {
      double mine = 0;
      for (std::int64_t step = 0; step < kUpdates; ++step) {
        if (rank == 1 && step == kBadUpdate) continue;
        double mean = 0;
        for (std::int64_t i = 0; i < kBatch; ++i)
          mean += HoleReader::value((step * kBatch + i) * kRanks + rank, k) / static_cast<double>(kBatch);
        mine = nn::BatchNormOptions{}.decay * mine + (1 - nn::BatchNormOptions{}.decay) * mean;
      }
      sum += mine / kRanks;
    }
    EXPECT_NEAR(running[static_cast<std::size_t>(k)], sum, 1e-6);
  }
}

/// Workers that compute at the same time, in whatever order: nothing that is not finite stays.
TEST_F(SkippedStep, LeavesNothingBehindWhereWorkersDoNotWait) {
  for (const Options& updater :
       {Options{{"train.updater", std::string("async")}},
        Options{{"train.updater", std::string("async")}, {"updater.soft_sync", std::int64_t{2}}},
        Options{{"train.updater", std::string("sync_with_backups")}, {"updater.replicas_to_aggregate", std::int64_t{2}}}}) {
    for (const std::string bad : {"nan", "inf"}) {
      const Way way{"async", 4, 3, with(updater, {{"cluster.ps", std::int64_t{1}}, {"train.epochs", std::int64_t{3}}})};
      const Options all = options(way, 1, bad);
      const std::int64_t from = std::get<std::int64_t>(all.at("data.train.bad_from"));
      const TrainResult result = train_with(way.ranks, with(all, {{"data.train.bad_until", from + 1}}));
      for (const auto& [name, values] : tensors_of(result.checkpoint)) {
        for (const float value : values) ASSERT_TRUE(std::isfinite(value)) << name;
      }
    }
  }
}

/// In stage 3 a rank without samples runs its graph all the same, with no rows: they have no statistics.
TEST_F(SkippedStep, RowsThatAreNotThereHaveNoStatistics) {
  const Way way{"sharded", 3, 3};
  const Options few = with(options(way, 1, "nan"), {{"data.train.samples", std::int64_t{49}},
                                                    {"data.train.bad_from", std::int64_t{-1}},
                                                    {"data.train.bad_until", std::int64_t{-1}},
                                                    {"train.epochs", std::int64_t{2}}});
  for (const std::int64_t accumulate : {1, 3}) {
    const Options these = with(few, {{"train.accumulate", accumulate}});
    const TrainResult replicas = train_with(3, these);
    EXPECT_EQ(replicas.skipped, 0);
    const TrainResult parts =
        train_with(3, with(these, {{"train.updater", std::string("sharded")}, {"updater.stage", std::int64_t{3}}}));
    EXPECT_EQ(parts.skipped, 0);
    if (accumulate == 1) expect_same_bits(replicas.checkpoint, parts.checkpoint);
    else testing::expect_close(replicas.checkpoint, parts.checkpoint, 1e-3);
  }
}

}  // namespace
}  // namespace cohort
