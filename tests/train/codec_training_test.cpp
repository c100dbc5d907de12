// Codecs and error feedback in training: what is kept, what is delivered, when it begins, what a checkpoint holds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <mutex>
#include <numeric>

#include "checkpoint/residual_files.hpp"
#include "cohort/base/random.hpp"
#include "cohort/comm/control.hpp"
#include "exchange/gradient_exchange.hpp"
#include "exchange/node_sharded_reduction.hpp"
#include "exchange/replicated_reduction.hpp"
#include "exchange/residual_alarm.hpp"
#include "exchange/zero_streamed_reduction.hpp"
#include "run/setup.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_close;
using testing::expect_same_bits;
using testing::numbers;
using testing::Options;
using testing::TemporaryFolder;
using testing::tensors_of;
using testing::train_with;
using testing::with;
using ::testing::HasSubstr;

std::vector<int> apart(int ranks) {
  std::vector<int> labels(static_cast<std::size_t>(ranks));
  std::iota(labels.begin(), labels.end(), 0);
  return labels;
}

/// Weights of 64·96 and 96·64 elements are large, the last one of 640 and all biases small; two buckets of large ones.
class CodecTraining : public ::testing::Test {
 protected:
  [[nodiscard]] Options options(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.check_replicas", true}, {"train.max_steps", std::int64_t{8}},
                 {"train.epochs", std::int64_t{9}}, {"train.log_every", std::int64_t{1}}, {"train.threads", std::int64_t{1}},
                 {"model.type", std::string("mlp")}, {"model.hidden", numbers({96, 64})},
                 {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{96}},
                 {"data.train.shape", numbers({8, 8, 1})}, {"data.global_batch", std::int64_t{24}}, {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("sgd")}, {"optimizer.momentum", 0.9}, {"schedule.learning_rate", 0.02},
                 {"exchange.codec", std::string("int8")}, {"exchange.dense_steps", std::int64_t{0}}, {"exchange.algorithm", std::string("direct")},
                 {"exchange.network.latency_us", 5.0}, {"exchange.network.bandwidth_gbs", 12.5}, {"exchange.network.node_latency_us", 0.5},
                 {"exchange.network.node_bandwidth_gbs", 10.0}, {"exchange.network.sum_gbs", 20.0},
                 {"exchange.first_bucket_mib", 0.02}, {"exchange.bucket_mib", 0.03}},
                changes);
  }

  TemporaryFolder folder_;
};

constexpr bool kBrief = COHORT_BRIEF;   // a sanitizer's build: one combination of each kind
const Options kExact = {{"exchange.codec", std::string("fp32")}};

/// |x - y| / |y| over all parameters.
double distance(const std::filesystem::path& a, const std::filesystem::path& b) {
  const auto x = tensors_of(a), y = tensors_of(b);
  double difference = 0, norm = 0;
  for (const auto& [name, values] : x) {
    for (std::size_t i = 0; name.starts_with("/parameters") && i < values.size(); ++i) {
      const double to = y.at(name)[i];
      difference += (values[i] - to) * (values[i] - to);
      norm += to * to;
    }
  }
  return std::sqrt(difference / norm);
}

TEST_F(CodecTraining, ReplicasStayTheSameAndNearTheExactRun) {
  const TrainResult exact = train_with(3, options(kExact), {}, apart(3));
  for (const std::string codec : {"int8", "bf16", "fp16"}) {
    if (kBrief && codec != "int8") continue;
    for (const std::string algorithm : {"auto", "direct", "recursive_halving", "ring", "hierarchical"}) {
      for (const std::vector<int>& nodes : {std::vector<int>{0, 1, 2}, std::vector<int>{0, 1, 1}}) {
        SCOPED_TRACE(codec + " with " + algorithm);
        const Options with_codec = options({{"exchange.codec", codec}, {"exchange.algorithm", algorithm}});
        const TrainResult result = train_with(3, with_codec, {}, nodes);       // compares the replicas after each step
        const double off = distance(result.checkpoint, exact.checkpoint);
        EXPECT_LT(off, 3e-3);
        EXPECT_GT(off, 1e-7) << "was the codec used?";
      }
    }
  }
}

TEST_F(CodecTraining, EveryOptimizerWorksWithEveryCodec) {
  for (const std::string& name : Registry<OptimizerType>::instance().names()) {
    if (kBrief && name != "sgd" && name != "lamb") continue;
    Options base = options({{"optimizer.type", name}, {"schedule.learning_rate", 0.001}, {"train.max_steps", std::int64_t{4}}, {"train.clip_norm", 0.5}});
    base.erase("optimizer.momentum");
    const TrainResult exact = train_with(2, with(base, kExact), {}, apart(2));
    for (const std::string codec : {"int8", "bf16", "fp16"}) {
      for (std::int64_t accumulate = 1; accumulate <= (codec == "int8" ? 2 : 1); ++accumulate) {
        SCOPED_TRACE(name + " with " + codec);
        const TrainResult result = train_with(2, with(base, {{"exchange.codec", codec}, {"train.accumulate", accumulate},
                                                            {"data.global_batch", 24 / accumulate}}), {}, apart(2));
        EXPECT_LT(distance(result.checkpoint, exact.checkpoint), 0.02);
      }
    }
  }
}

TEST_F(CodecTraining, OneNodeTravelsExactly) {
  const Options chooses = {{"exchange.algorithm", std::string("auto")}};
  const TrainResult exact = train_with(3, options(with(chooses, kExact)));
  expect_same_bits(exact.checkpoint, train_with(3, options(chooses)).checkpoint);
}

TEST_F(CodecTraining, MachinesThatShareTheirParametersSumExactlyInside) {
  const std::vector<int> nodes{0, 0, 1, 1};
  const Options chooses = {{"exchange.algorithm", std::string("auto")}};
  const TrainResult exact = train_with(4, options(with(chooses, kExact)), {}, nodes);
  const TrainResult whole = train_with(4, options(chooses), {}, nodes);
  EXPECT_LT(distance(whole.checkpoint, exact.checkpoint), 3e-3);
  EXPECT_GT(distance(whole.checkpoint, exact.checkpoint), 1e-7);
  const TrainResult first = train_with(4, options(with(chooses, {{"train.max_steps", std::int64_t{3}}})), {}, nodes);
  expect_same_bits(whole.checkpoint, train_with(4, options(chooses), first.directory.string(), nodes).checkpoint);
}

TEST_F(CodecTraining, TheFirstStepsAreDense) {
  const Options order = {{"exchange.rank_order", true}};
  const TrainResult exact = train_with(3, options(with(order, kExact)), {}, apart(3));
  const TrainResult all_dense = train_with(3, options(with(order, {{"exchange.dense_steps", std::int64_t{8}}})), {}, apart(3));
  expect_same_bits(exact.checkpoint, all_dense.checkpoint);
  const TrainResult one_coded = train_with(3, options(with(order, {{"exchange.dense_steps", std::int64_t{7}}})), {}, apart(3));
  EXPECT_GT(distance(one_coded.checkpoint, exact.checkpoint), 1e-7);
}

TEST_F(CodecTraining, ResumedIsNeverStoppedBeforeAtAndAfterTheSwitch) {
  for (const std::string rounding : {"nearest", "stochastic"}) {
    const Options base = options({{"exchange.dense_steps", std::int64_t{4}}, {"exchange.int8.rounding", rounding}});
    const TrainResult whole = train_with(3, base, {}, apart(3));
    for (const std::int64_t stop : kBrief ? std::vector<std::int64_t>{4} : std::vector<std::int64_t>{2, 4, 6}) {
      SCOPED_TRACE(rounding + ", stopped at step " + std::to_string(stop));
      const TrainResult first = train_with(3, with(base, {{"train.max_steps", stop}}), {}, apart(3));
      const TrainResult second = train_with(3, base, first.directory.string(), apart(3));
      EXPECT_EQ(second.steps, 8);
      expect_same_bits(whole.checkpoint, second.checkpoint);
    }
  }
}

TEST_F(CodecTraining, ResumesWithAnotherNumberOfRanks) {
  const TrainResult whole = train_with(1, options(kExact));
  for (const auto& [before, after] : {std::pair{2, 4}, std::pair{4, 2}, std::pair{3, 1}, std::pair{1, 3}}) {
    const TrainResult first = train_with(before, options({{"train.max_steps", std::int64_t{5}}}), {}, apart(before));
    const TrainResult second = train_with(after, options(), first.directory.string(), apart(after));
    EXPECT_LT(distance(second.checkpoint, whole.checkpoint), 3e-3) << before << " → " << after;
  }
}

TEST_F(CodecTraining, ResumesWithOtherSharesOfAMachine) {
  const std::vector<int> nodes{0, 0, 1, 1};
  const Options base = options({{"exchange.algorithm", std::string("auto")}});
  const TrainResult whole = train_with(4, base, {}, nodes);
  for (const Options& other : {Options{{"exchange.bucket_mib", 1.0}, {"exchange.first_bucket_mib", 1.0}}, Options{{"exchange.shared_parameters", false}}}) {
    const TrainResult first = train_with(4, with(base, {{"train.max_steps", std::int64_t{5}}}), {}, nodes);
    const TrainResult second = train_with(4, with(base, other), first.directory.string(), nodes);
    EXPECT_EQ(second.steps, 8);
    EXPECT_LT(distance(second.checkpoint, whole.checkpoint), 3e-3);
    EXPECT_EQ(second.skipped, 0);
  }
}

TEST_F(CodecTraining, AThreadOfItsOwnChangesNothing) {
  const TrainResult off = train_with(3, options({{"exchange.thread", std::string("off")}}), {}, apart(3));
  expect_same_bits(off.checkpoint, train_with(3, options({{"exchange.thread", std::string("on")}}), {}, apart(3)).checkpoint);
}

TEST_F(CodecTraining, BucketsAreReported) {
  const TrainResult result = train_with(3, options({{"exchange.dense_steps", std::int64_t{2}}}), {}, apart(3));
  std::ifstream file(result.directory / "metrics.jsonl");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 8u);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (const std::string name : {"bytes", "ratio", "relative_error", "residual_ratio"}) {
      const bool there = lines[i].find("exchange/bucket_1/" + name) != std::string::npos;
      EXPECT_EQ(there, i >= 2) << name << " in line " << i;
    }
  }
}

/// The exchange of one rank, without a trainer around it: gradients are what a test writes.
class Rig {
 public:
  /// Without a builder: what the ranks' parameters ask for.
  Rig(Communicator& c, const Options& options, ReductionBuilder builder = {}) : config_(testing::section_of(options)), setup_(c, config_) {
    setup_.place_parameters();
    if (!builder && setup_.group) builder = [this](const ReductionContext& context) { return std::make_unique<NodeShardedReduction>(context, *setup_.group); };
    if (!builder) builder = build_reduction<ReplicatedReduction>;
    exchange_ = std::make_unique<GradientExchange>(c, setup_.parameters->layout(), setup_.replica->session().device(), setup_.updater.exchange, builder);
  }

  [[nodiscard]] Reduction& reduction() { return exchange_->reduction(); }
  [[nodiscard]] ErrorFeedback& feedback() { return reduction().compression().feedback(); }
  [[nodiscard]] CodecReport& report() { return reduction().compression().report(); }
  [[nodiscard]] Tensor gradient(std::size_t p) { return reduction().store()->gradient(p); }
  [[nodiscard]] std::span<const Parameter> parameters() const { return setup_.parameters->layout().trained(); }

  /// One step; gradient of element i of parameter p: value(p, i). The sums by parameter, dense.
  template <class F>
  std::vector<std::vector<float>> step(std::int64_t number, F value) {
    exchange_->begin(number);
    for (std::size_t p = 0; p < parameters().size(); ++p) {
      std::vector<float> x(static_cast<std::size_t>(parameters()[p].shape.elements()));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = value(p, i);
      gradient(p).copy_from(Tensor::of(parameters()[p].shape, x));
      exchange_->ready(p);
    }
    (void)exchange_->finish({});
    std::vector<std::vector<float>> sums;
    for (std::size_t p = 0; p < parameters().size(); ++p) sums.push_back(gradient(p).to_vector<float>());
    return sums;
  }

  /// The same where each rank gets the sums of its blocks: all of them, gathered, dense, one parameter after the other.
  template <class F>
  std::vector<double> step_in_blocks(Communicator& c, std::int64_t number, F value) {
    exchange_->begin(number);
    for (std::size_t p = 0; p < parameters().size(); ++p) {
      std::vector<float> x(static_cast<std::size_t>(parameters()[p].shape.elements()));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = value(p, i);
      const Tensor given = Tensor::of(parameters()[p].shape, x);
      if (reduction().store() != nullptr) gradient(p).copy_from(given);
      exchange_->ready(p, &given);
    }
    (void)exchange_->finish({});
    std::vector<double> flat(static_cast<std::size_t>(setup_.parameters->layout().flat_size()), 0), dense;
    for (const GradientRange& mine : reduction().owned()) {
      for (std::int64_t i = 0; i < mine.n; ++i) flat[static_cast<std::size_t>(mine.begin + i)] = mine.gradient[i];
    }
    all_reduce(c, flat, Reduce::sum);
    for (const Parameter& p : parameters()) {
      for (std::int64_t i = 0; i < p.shape.elements(); ++i) {
        const std::int64_t columns = p.shape.columns();
        dense.push_back(flat[static_cast<std::size_t>(p.offset + i / columns * p.ld + i % columns)]);
      }
    }
    return dense;
  }

  /// All residuals, one parameter after the other.
  std::vector<double> residuals() {
    struct Reader final : StateWriter {
      std::vector<double> all;
      void tensor(const std::string&, const Tensor& value) override {
        for (const float x : value.to_vector<float>()) all.push_back(x);
      }
      void piece(const std::string&, const Shape&, std::int64_t, const Tensor&) override {}
      void value(const std::string&, std::int64_t) override {}
      void value(const std::string&, double) override {}
      void text(const std::string&, const std::string&) override {}
    } reader;
    feedback().save(reader);
    return reader.all;
  }

 private:
  Section config_;
  Setup setup_;
  std::unique_ptr<GradientExchange> exchange_;
};

float noise(int rank, std::int64_t step, std::size_t p, std::size_t i) {
  return random_normal(11, static_cast<std::uint64_t>(rank + 100 * step + 10'000 * static_cast<std::int64_t>(p)), i);
}

std::vector<double> joined(const std::vector<std::vector<float>>& parts) {
  std::vector<double> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST_F(CodecTraining, NothingIsLostFromStepToStep) {
  run_as_threads(3, [&](Communicator& c) {
    Rig rig(c, options({{"exchange.error_feedback", std::string("on")}}));
    std::vector<double> before = rig.residuals();
    for (std::int64_t step = 0; step < 5; ++step) {
      std::vector<double> left;
      const auto sums = rig.step(step, [&](std::size_t p, std::size_t i) {
        left.push_back(noise(c.rank(), step, p, i));
        return static_cast<float>(left.back());
      });
      std::vector<double> after = rig.residuals();
      const std::vector<double> out = joined(sums);
      ASSERT_EQ(left.size(), after.size());
      for (std::size_t i = 0; i < left.size(); ++i) left[i] += before[i];
      before = after;
      all_reduce(c, left, Reduce::sum);
      all_reduce(c, after, Reduce::sum);
      double worst = 0;
      for (std::size_t i = 0; i < left.size(); ++i) worst = std::max(worst, std::fabs(out[i] + after[i] - left[i]));
      ASSERT_LT(worst, 1e-6 * 4 * 3) << "step " << step;
    }
    EXPECT_GT(*std::ranges::max_element(before), 1e-4) << "nothing was kept";
  }, {.nodes = apart(3)});
}

TEST_F(CodecTraining, NothingIsLostWhereRanksSumTheirBlocks) {
  for (const bool parts : {false, true}) {
    run_as_threads(3, [&](Communicator& c) {
      Rig rig(c, options({{"exchange.error_feedback", std::string("on")}}), parts ? build_reduction<ZeroStreamedReduction> : build_reduction<ZeroStoreReduction>);
      std::vector<double> before = rig.residuals();
      for (std::int64_t step = 0; step < 3; ++step) {
        std::vector<double> left;
        const std::vector<double> out = rig.step_in_blocks(c, step, [&](std::size_t p, std::size_t i) {
          left.push_back(noise(c.rank(), step, p, i));
          return static_cast<float>(left.back());
        });
        std::vector<double> after = rig.residuals();
        for (std::size_t i = 0; i < left.size(); ++i) left[i] += before[i];
        before = after;
        all_reduce(c, left, Reduce::sum);
        all_reduce(c, after, Reduce::sum);
        double worst = 0;
        for (std::size_t i = 0; i < left.size(); ++i) worst = std::max(worst, std::fabs(out[i] + after[i] - left[i]));
        ASSERT_LT(worst, 1e-6 * 4 * 3) << "step " << step << (parts ? " in parts" : "");
      }
      EXPECT_GT(*std::ranges::max_element(before), 1e-4) << "nothing was kept";
    }, {.nodes = apart(3)});
  }
}

TEST_F(CodecTraining, CompressedAndOtherTensorsHaveTheSameScale) {
  for (const std::vector<int>& nodes : {std::vector<int>{0, 1, 2}, std::vector<int>{0, 0, 1}}) {
    run_as_threads(3, [&](Communicator& c) {
      Rig rig(c, options({{"exchange.shared_parameters", false}, {"exchange.algorithm", std::string("hierarchical")}}));
      const auto sums = rig.step(0, [](std::size_t, std::size_t) { return 0.25f; });
      for (std::size_t p = 0; p < sums.size(); ++p) {
        for (const float x : sums[p]) ASSERT_NEAR(x, 0.75f, 1e-6) << rig.parameters()[p].name;
      }
    }, {.nodes = nodes});
  }
}

TEST_F(CodecTraining, SmallTensorsTravelInTheirOwnCodec) {
  run_as_threads(2, [&](Communicator& c) {
    Rig rig(c, options());
    rig.report().observe_next_step();
    // In a block of int8 the small numbers beside a large one are lost; not so in bf16.
    const auto sums = rig.step(0, [](std::size_t, std::size_t i) { return i % 256 == 0 ? 1000.f : 1e-3f; });
    for (std::size_t p = 0; p < sums.size(); ++p) {
      const Parameter& parameter = rig.parameters()[p];
      const bool small = parameter.shape.rank() < 2 || parameter.shape.elements() < 4096;
      EXPECT_NEAR(sums[p][1], small ? 2e-3f : 0.f, 1e-5f) << parameter.name;
    }
    const auto reports = rig.report().reports();
    ASSERT_EQ(reports.size(), 3u);
    EXPECT_LE(reports[0].ratio, 0.26);
    EXPECT_LE(reports[1].ratio, 0.26);
    EXPECT_EQ(reports[2].ratio, 0.5);
    EXPECT_GT(reports[0].bytes, 0);
  }, {.nodes = apart(2)});
}

TEST_F(CodecTraining, ReportsSayWhatTheCodecDoes) {
  for (const std::vector<int>& nodes : {std::vector<int>{0, 1, 2, 3}, std::vector<int>{0, 0, 1, 1}}) {
    run_as_threads(4, [&](Communicator& c) {
      Rig rig(c, options({{"exchange.algorithm", std::string("auto")}}));
      const auto gradient = [&](std::size_t p, std::size_t i) { return noise(c.rank(), 1, p, i); };
      (void)rig.step(0, gradient);
      EXPECT_TRUE(rig.report().reports().empty());
      rig.report().observe_next_step();
      (void)rig.step(1, gradient);
      const auto reports = rig.report().reports();
      ASSERT_EQ(reports.size(), 3u);
      for (const BucketReport& report : reports) {
        const bool small = report.bucket == 2;
        // Of normal numbers the largest of 256 is about 2.9: a step of 2.9 / 127, of which the rms is 1/√12.
        EXPECT_NEAR(report.relative_error, small ? 0.0017 : 0.0066, small ? 0.0003 : 0.001);
        EXPECT_NEAR(report.residual_ratio, small ? 0 : 0.0066, 0.003) << report.bucket;
        EXPECT_NEAR(report.ratio, small ? 0.5 : 0.254, 0.001);
      }
    }, {.nodes = nodes});
  }
}

TEST_F(CodecTraining, ResidualsOfOtherRanksAreDeliveredByOneDenseStep) {
  const auto checkpoint = folder_.path() / "some" / "step-0000000007.h5";
  for (const auto& [before, after] : {std::pair{3, 2}, std::pair{2, 4}, std::pair{4, 1}, std::pair{2, 2}}) {
    SCOPED_TRACE(std::to_string(before) + " → " + std::to_string(after));
    std::vector<double> kept;
    run_as_threads(before, [&, n = before](Communicator& c) {
      Rig rig(c, options());
      (void)rig.step(6, [&](std::size_t p, std::size_t i) { return noise(c.rank(), 1, p, i); });
      ResidualFiles files(c.rank(), c.size(), rig.feedback(), checkpoint.parent_path(), 2, "", c);
      files.save(7, false);
      files.close();
      std::vector<double> mine = rig.residuals();
      all_reduce(c, mine, Reduce::sum);
      if (c.rank() == 0) kept = mine;
      EXPECT_EQ(c.size(), n);
    }, {.nodes = apart(before)});
    run_as_threads(after, [&, same = before == after](Communicator& c) {
      Rig rig(c, options());
      ResidualFiles::load(c, rig.feedback(), checkpoint);
      std::vector<double> loaded = rig.residuals();
      all_reduce(c, loaded, Reduce::sum);
      for (std::size_t i = 0; i < kept.size(); ++i) ASSERT_NEAR(loaded[i], kept[i], 1e-7);
      if (same) return;
      const std::vector<double> out = joined(rig.step(7, [](std::size_t, std::size_t) { return 0.f; }));
      for (std::size_t i = 0; i < kept.size(); ++i) ASSERT_NEAR(out[i], kept[i], 1e-7);
      for (const double x : rig.residuals()) ASSERT_EQ(x, 0);
      (void)rig.step(8, [&](std::size_t p, std::size_t i) { return noise(c.rank(), 2, p, i); });
      if (c.size() > 1) { EXPECT_GT(std::ranges::max(rig.residuals()), 1e-4) << "the step after it is not compressed"; }
    }, {.nodes = apart(after)});
  }
}

TEST_F(CodecTraining, ABadGradientSpoilsAStepButNoResidual) {
  run_as_threads(3, [&](Communicator& c) {
    Rig rig(c, options());
    const auto good = [&](std::size_t p, std::size_t i) { return noise(c.rank(), 1, p, i); };
    (void)rig.step(0, good);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      (void)rig.step(1, [&](std::size_t p, std::size_t i) { return c.rank() == 1 && i == 3 ? bad : good(p, i); });
      EXPECT_FALSE(std::isfinite(rig.reduction().sum_of_squares()));
      for (const double x : rig.residuals()) ASSERT_TRUE(std::isfinite(x));
      (void)rig.step(2, good);
      EXPECT_TRUE(std::isfinite(rig.reduction().sum_of_squares()));
    }
  }, {.nodes = apart(3)});
}

TEST(ResidualAlarms, RaiseForOneAndForSteadyGrowth) {
  ResidualAlarm steady;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(steady.observe(0.01 + 0.001 * (i % 2)), "");
  ResidualAlarm growing;
  std::string said;
  int times = 0;
  for (double ratio = 0.01; ratio < 0.9; ratio *= 1.2) {
    const std::string text = growing.observe(ratio);
    times += text.empty() ? 0 : 1;
    if (said.empty()) said = text;
  }
  EXPECT_EQ(times, 1);
  EXPECT_THAT(said, HasSubstr("keeps growing"));
  ResidualAlarm large;
  EXPECT_THAT(large.observe(1.5), HasSubstr("1.5 times as large as the gradient"));
  EXPECT_EQ(large.observe(1.6), "");
  EXPECT_EQ(large.observe(0.5), "");
  EXPECT_NE(large.observe(1.5), "");
}

}  // namespace
}  // namespace cohort
