// Whole training runs with ranks as threads: what data parallelism promises, checked on the parameters that come out.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "cohort/data/reader.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/params/optimizer.hpp"
#include "run/replica_sums.hpp"
#include "support/patience.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_close;
using testing::expect_same_bits;
using testing::Options;
using testing::TemporaryFolder;
using testing::tensors_of;
using testing::train_with;
using testing::with;
using ::testing::HasSubstr;

class Training : public ::testing::Test {
 protected:
  [[nodiscard]] Options options(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.check_replicas", true}, {"train.max_steps", std::int64_t{6}},
                 {"model.type", std::string("mlp")}, {"model.hidden", OptionList{{std::int64_t{17}, "test"}}},
                 {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{96}},
                 {"data.train.shape", OptionList{{std::int64_t{4}, "test"}, {std::int64_t{4}, "test"}, {std::int64_t{1}, "test"}}},
                 {"data.batch", std::int64_t{24}}, {"data.threads", std::int64_t{0}}, {"optimizer.type", std::string("sgd")},
                 {"schedule.learning_rate", 0.1}, {"optimizer.momentum", 0.9}, {"exchange.first_bucket_mib", 0.0005}, {"exchange.bucket_mib", 0.001}},
                changes);
  }

  TemporaryFolder folder_;
};

TEST_F(Training, SeveralRanksAreOneRankWithTheWholeBatch) {
  const TrainResult one = train_with(1, options());
  for (const int ranks : {2, 3, 4}) {
    const TrainResult many = train_with(ranks, options({{"data.batch", std::int64_t{24 / ranks}}}));
    expect_close(one.checkpoint, many.checkpoint, 1e-6);
    EXPECT_NEAR(one.loss, many.loss, 1e-6 * one.loss);
  }
}

TEST_F(Training, ShortUnequalAndEmptySharesGiveTheWholeBatch) {
  // 49 samples in steps of 24: the third step has one sample, so all ranks but one have none.
  const Options odd = {{"data.train.samples", std::int64_t{49}}, {"data.global_batch", std::int64_t{24}}};
  const TrainResult one = train_with(1, options(odd));
  for (const int ranks : {2, 3, 4}) expect_close(one.checkpoint, train_with(ranks, options(odd)).checkpoint, 1e-6);
  const OptionList shares = {{std::int64_t{5}, "test"}, {std::int64_t{19}, "test"}};
  expect_close(one.checkpoint, train_with(2, options({{"data.train.samples", std::int64_t{49}}, {"data.rank_batches", shares}})).checkpoint, 1e-6);
}

TEST_F(Training, AccumulatedBatchesAreOneLargeBatch) {
  const Options odd = {{"data.train.samples", std::int64_t{90}}};
  const TrainResult whole = train_with(1, options(odd));
  for (const int ranks : {1, 2}) {
    const TrainResult parts = train_with(ranks, options(with(odd, {{"data.batch", std::int64_t{8 / ranks}}, {"train.accumulate", std::int64_t{3}}})));
    expect_close(whole.checkpoint, parts.checkpoint, 2e-6);
  }
}

TEST_F(Training, BucketsDoNotChangeTheResult) {
  const Options base = {{"data.batch", std::int64_t{8}}, {"exchange.rank_order", true}};
  const TrainResult many = train_with(3, options(base));
  const TrainResult one = train_with(3, options(with(base, {{"exchange.first_bucket_mib", 1.0}, {"exchange.bucket_mib", 25.0}})));
  expect_same_bits(many.checkpoint, one.checkpoint);
}

TEST_F(Training, ClippingIsTheSameForAnyNumberOfRanks) {
  const Options clip = {{"train.clip_norm", 0.05}};
  const TrainResult one = train_with(1, options(clip));
  expect_close(one.checkpoint, train_with(3, options(with(clip, {{"data.batch", std::int64_t{8}}}))).checkpoint, 1e-6);
  const auto clipped = tensors_of(one.checkpoint), free = tensors_of(train_with(1, options()).checkpoint);
  EXPECT_NE(clipped, free);
}

TEST_F(Training, EveryOptimizerKeepsReplicasTheSame) {
  for (const std::string& name : Registry<OptimizerType>::instance().names()) {
    Options base = options({{"optimizer.type", name}, {"schedule.learning_rate", 0.01}, {"data.batch", std::int64_t{8}}});
    base.erase("optimizer.momentum");
    const TrainResult three = train_with(3, base);
    base["data.batch"] = std::int64_t{24};
    expect_close(train_with(1, base).checkpoint, three.checkpoint, 1e-4);
  }
}

TEST_F(Training, ResumedIsNeverStopped) {
  for (const int ranks : {1, 3}) {
    const Options base = options({{"data.batch", std::int64_t{8}}, {"train.epochs", std::int64_t{4}}, {"train.max_steps", std::int64_t{11}}});
    const TrainResult whole = train_with(ranks, base);
    const TrainResult first = train_with(ranks, with(base, {{"train.max_steps", std::int64_t{5}}}));
    const TrainResult second = train_with(ranks, base, first.directory.string());
    EXPECT_EQ(second.steps, 11);
    EXPECT_EQ(second.directory, first.directory);
    expect_same_bits(whole.checkpoint, second.checkpoint);
  }
}

TEST_F(Training, ResumesWithAnotherNumberOfRanks) {
  const Options base = options({{"data.global_batch", std::int64_t{24}}, {"train.epochs", std::int64_t{4}}, {"train.max_steps", std::int64_t{11}}});
  const TrainResult whole = train_with(1, base);
  for (const auto& [before, after] : {std::pair{1, 4}, std::pair{4, 1}, std::pair{3, 2}}) {
    const TrainResult first = train_with(before, with(base, {{"train.max_steps", std::int64_t{5}}}));
    expect_close(whole.checkpoint, train_with(after, base, first.directory.string()).checkpoint, 1e-5);
  }
}

const Registered<ModelType> normalised{"test_batch_norm", {[](Section&) -> ModelBuilder {
                                         return [](Graph&, const Batch& b) -> Model {
                                           const Value h = nn::batch_norm(nn::dense(flatten(b["image"]), 5, "first"), b.training, "norm");
                                           return classifier(b, nn::dense(relu(h), 10, "second"));
                                         };
                                       }}};

TEST_F(Training, RunningStatisticsAreAveragedOverTheRanksWhenSaved) {
  // One step from zero: running = 0.9 · start + 0.1 · mean of the ranks' batch means, which is the whole batch's mean.
  Options base = options({{"model.type", std::string("test_batch_norm")}, {"train.max_steps", std::int64_t{1}}});
  base.erase("model.hidden");
  const auto one = tensors_of(train_with(1, base).checkpoint).at("/statistics/norm/running_mean");
  for (const int ranks : {2, 3}) {
    const auto many = tensors_of(train_with(ranks, with(base, {{"data.batch", std::int64_t{24 / ranks}}})).checkpoint);
    const auto& mean = many.at("/statistics/norm/running_mean");
    for (std::size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(mean[i], one[i], 1e-6);
  }
  const Options longer = with(base, {{"data.batch", std::int64_t{8}}, {"train.epochs", std::int64_t{4}}, {"train.max_steps", std::int64_t{9}}});
  const TrainResult whole = train_with(3, with(longer, {{"checkpoint.every_steps", std::int64_t{5}}}));
  const TrainResult first = train_with(3, with(longer, {{"train.max_steps", std::int64_t{5}}}));
  expect_same_bits(whole.checkpoint, train_with(3, longer, first.directory.string()).checkpoint);
}

const Registered<ModelType> joint{"test_joint_batch_norm", {[](Section&) -> ModelBuilder {
                                    return [](Graph& g, const Batch& b) -> Model {   // no biases: their gradients would be 0
                                      const nn::BatchNormOptions options{.relu = true, .over_replicas = true};
                                      Value h = matmul(flatten(b["image"]), g.variable("first", {16, 5}, "he_normal"));
                                      h = nn::batch_norm(h, b.training, "norm_1", options);
                                      h = matmul(h, g.variable("second", {5, 6}, "he_normal"));
                                      h = nn::batch_norm(h, b.training, "norm_2", options);
                                      return classifier(b, nn::dense(h, 10, "third"));
                                    };
                                  }}};

TEST_F(Training, BatchNormOverAllReplicasIsOneRankWithTheWholeBatch) {
  // 51 samples in batches of 24: a last batch of 3, which leaves ranks of 4 and 5 without any.
  Options base = options({{"model.type", std::string("test_joint_batch_norm")}, {"data.train.samples", std::int64_t{51}},
                          {"train.max_steps", std::int64_t{7}}, {"train.epochs", std::int64_t{3}},
                          {"data.global_batch", std::int64_t{24}}, {"schedule.learning_rate", 0.01}});
  base.erase("model.hidden");
  base.erase("data.batch");
  for (const std::int64_t accumulate : {1, 2}) {
    base["train.accumulate"] = accumulate;
    base["train.max_steps"] = 6 / accumulate;
    const TrainResult one = train_with(1, base);
    for (const int ranks : {2, 3, 4, 5}) {
      SCOPED_TRACE(std::to_string(ranks) + " ranks, accumulate " + std::to_string(accumulate));
      expect_close(one.checkpoint, train_with(ranks, base).checkpoint, 1e-5);
    }
  }
}

TEST(ReplicaSums, RanksThatDoNotAgreeAllThrowTheSameError) {
  std::array<std::string, 3> errors;
  run_as_threads(3, [&](Communicator& communicator) {
    ReplicaSums sums(communicator);
    sums.begin(4);
    std::vector<float> values{1, 2, static_cast<float>(communicator.rank())};
    sums.sum(values);
    EXPECT_THAT(values, ::testing::ElementsAre(3, 6, 3));
    values.resize(communicator.rank() == 2 ? 2 : 3);
    try {
      sums.sum(values);
    } catch (const Error& error) {
      errors[static_cast<std::size_t>(communicator.rank())] = error.what();
    }
  }, {.timeout = testing::kHung});
  for (const std::string& error : errors) EXPECT_THAT(error, HasSubstr("rank 0 is at sum 1 of step 4, 3 values, rank 2 at sum 1 of step 4, 2 values"));
}

// Samples of a line y = 2 x; sample 5 is not a number on its first visit only if `poison` says so.
class PoisonedReader final : public Reader {
 public:
  explicit PoisonedReader(Section& section) {
    section.bind("poison", poison_, "sample that is not a number; -1: none");
    section.bind("poison_all", poison_all_, "every sample is not a number");
  }
  std::int64_t size() const override { return 24; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto x = static_cast<float>(samples[i]) / 24.f;
      const bool bad = poison_all_ || static_cast<std::int64_t>(samples[i]) == poison_;
      static_cast<float*>(buffers[0])[i] = bad ? std::numeric_limits<float>::quiet_NaN() : x;
      static_cast<float*>(buffers[1])[i] = 2 * x;
    }
  }

 private:
  std::int64_t poison_ = -1;
  bool poison_all_ = false;
  std::vector<Field> fields_{{"x", DType::float32, {1}}, {"y", DType::float32, {1}}};
};
const Registered<ReaderType> poisoned{"test_poisoned", {[](Section& s) { return std::make_unique<PoisonedReader>(s); }}};
const Registered<ModelType> line{"test_line", {[](Section&) -> ModelBuilder {
                                   return [](Graph&, const Batch& b) -> Model {
                                     return {.loss = mean_squared_error(nn::dense(b["x"], 1, "line"), b["y"])};
                                   };
                                 }}};

Options line_options(const TemporaryFolder& folder, const Options& changes) {
  return with({{"train.directory", (folder.path() / "line").string()}, {"train.check_replicas", true}, {"model.type", std::string("test_line")},
               {"data.train.reader", std::string("test_poisoned")}, {"data.global_batch", std::int64_t{8}}, {"data.shuffle", false},
               {"data.threads", std::int64_t{0}}, {"schedule.learning_rate", 0.1}},
              changes);
}

TEST_F(Training, AGradientThatIsNotFiniteOnOneRankSkipsTheStepOnAll) {
  for (const int ranks : {1, 2, 3}) {
    const TrainResult result = train_with(ranks, line_options(folder_, {{"data.train.poison", std::int64_t{11}}, {"train.epochs", std::int64_t{2}}}));
    EXPECT_EQ(result.skipped, 2);          // the second of three steps, in both epochs
    EXPECT_EQ(result.steps, 6);
    for (const auto& [name, values] : tensors_of(result.checkpoint)) {
      for (const float value : values) EXPECT_TRUE(std::isfinite(value)) << name;
    }
  }
}

TEST_F(Training, ARunThatHasDivergedEndsWithItsReason) {
  try {
    train_with(2, line_options(folder_, {{"data.train.poison_all", true}, {"train.epochs", std::int64_t{20}}, {"train.max_skipped", std::int64_t{4}}}));
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("not finite in 4 steps in a row"));
  }
}

TEST_F(Training, ModelsThatDifferAreRefusedOnAllRanks) {
  std::array<std::string, 3> errors;
  run_as_threads(3, [&](Communicator& communicator) {
    Section config = testing::section_of(options({{"model.hidden", OptionList{{std::int64_t{communicator.rank() == 1 ? 18 : 17}, "test"}}}}));
    try {
      train(communicator, config);
    } catch (const Error& error) {
      errors[static_cast<std::size_t>(communicator.rank())] = error.what();
    }
  }, {.timeout = testing::kHung});
  EXPECT_THAT(errors[0], HasSubstr("ranks 0 and 1 have built different models"));
  EXPECT_EQ(errors[0], errors[1]);
  EXPECT_EQ(errors[0], errors[2]);
}

TEST_F(Training, TheDebugDeviceTrainsBitForBitLikeTheCpu) {
  ASSERT_NE(dlopen(COHORT_DEBUG_PLUGIN, RTLD_NOW), nullptr) << dlerror();
  for (const char* optimizer : {"sgd", "lamb"}) {
    Options base = options({{"train.max_steps", std::int64_t{20}}, {"train.epochs", std::int64_t{9}}, {"data.batch", std::int64_t{12}},
                            {"optimizer.type", std::string(optimizer)}});
    if (std::string(optimizer) != "sgd") base.erase("optimizer.momentum");
    const TrainResult cpu = train_with(2, base);
    const TrainResult debug = train_with(2, with(base, {{"train.device", std::string("DEBUG:0")}}));
    expect_same_bits(cpu.checkpoint, debug.checkpoint);
    EXPECT_EQ(cpu.loss, debug.loss);
  }
}

}  // namespace
}  // namespace cohort
