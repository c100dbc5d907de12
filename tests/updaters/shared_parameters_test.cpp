// Ranks that keep one copy of the parameters per machine, and runs that must repeat bit for bit, against the plain path.
#include <gtest/gtest.h>

#include "cohort/params/optimizer.hpp"
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

constexpr bool kBrief = COHORT_BRIEF;   // a sanitizer's build: one combination of each kind

class SharedParameters : public ::testing::Test {
 protected:
  /// Rows of 256 columns are padded; buckets hold a few parameters each and are cut in the middle of one.
  [[nodiscard]] Options mlp(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.max_steps", std::int64_t{6}},
                 {"model.type", std::string("mlp")}, {"model.hidden", numbers({256, 33})},
                 {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{90}},
                 {"data.train.shape", numbers({5, 4, 1})}, {"data.batch", std::int64_t{8}}, {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("adam")}, {"schedule.learning_rate", 0.01}, {"train.threads", std::int64_t{1}},
                 {"exchange.first_bucket_mib", 0.004}, {"exchange.bucket_mib", 0.02}, {"exchange.rank_order", true}},
                changes);
  }
  [[nodiscard]] Options lenet(const Options& changes = {}) const {
    Options options = mlp({{"model.type", std::string("lenet")}, {"data.train.shape", numbers({28, 28, 1})}, {"train.max_steps", std::int64_t{3}}});
    options.erase("model.hidden");
    return with(options, changes);
  }

  TemporaryFolder folder_;
};

const Options kPlain = {{"exchange.shared_parameters", false}};

TEST_F(SharedParameters, EveryOptimizerHasTheBitsOfThePlainPath) {
  for (const std::string& name : Registry<OptimizerType>::instance().names()) {
    if (kBrief && name != "sgd" && name != "lamb") continue;
    const Options base = mlp({{"optimizer.type", name}, {"train.clip_norm", 0.5}});
    for (const int ranks : {2, 3, 4}) {
      SCOPED_TRACE(name + " on " + std::to_string(ranks) + " ranks");
      expect_same_bits(train_with(ranks, with(base, kPlain)).checkpoint, train_with(ranks, base).checkpoint);
    }
  }
}

TEST_F(SharedParameters, RanksWithoutSamplesAndAccumulatedBatchesDoNotDisturbIt) {
  Options few = mlp({{"data.train.samples", std::int64_t{49}}, {"data.global_batch", std::int64_t{24}}});
  few.erase("data.batch");
  expect_same_bits(train_with(3, with(few, kPlain)).checkpoint, train_with(3, few).checkpoint);
  const Options accumulated = mlp({{"train.accumulate", std::int64_t{2}}});
  expect_same_bits(train_with(3, with(accumulated, kPlain)).checkpoint, train_with(3, accumulated).checkpoint);
}

TEST_F(SharedParameters, SeveralMachinesAreOneRankWithTheWholeBatch) {
  const Options base = mlp({{"exchange.rank_order", false}, {"optimizer.type", std::string("sgd")}, {"data.batch", std::int64_t{6}}});
  const TrainResult one = train_with(1, with(base, {{"data.batch", std::int64_t{24}}}));
  for (const std::vector<int>& nodes : {std::vector<int>{0, 0, 1, 1}, std::vector<int>{0, 1, 0, 1}, std::vector<int>{0, 1, 1, 1}}) {
    expect_close(one.checkpoint, train_with(4, base, {}, nodes).checkpoint, 1e-5);     // the last cannot share, and says so
  }
}

TEST_F(SharedParameters, AStateSavedByOneWayIsResumedByTheOther) {
  const TrainResult whole = train_with(3, mlp());
  for (const bool shared_first : {true, false}) {
    const Options half = mlp({{"train.max_steps", std::int64_t{3}}, {"exchange.shared_parameters", shared_first}});
    const TrainResult first = train_with(3, half);
    const Options rest = mlp({{"exchange.shared_parameters", !shared_first}});
    expect_same_bits(whole.checkpoint, train_with(3, rest, first.directory.string()).checkpoint);
  }
}

TEST_F(SharedParameters, AThreadOfItsOwnForTheExchangeChangesNothing) {
  for (const bool shared : {true, false}) {
    for (const int ranks : {1, 2, 4}) {
      const Options base = mlp({{"exchange.shared_parameters", shared}, {"exchange.thread", std::string("off")}});
      expect_same_bits(train_with(ranks, base).checkpoint, train_with(ranks, with(base, {{"exchange.thread", std::string("on")}})).checkpoint);
    }
  }
}

TEST_F(SharedParameters, DeterministicRunsRepeatWithAnyThreadsBucketsAndOverlap) {
  for (const Options& model : kBrief ? std::vector{lenet()} : std::vector{mlp(), lenet()}) {
    const Options base = with(model, {{"train.deterministic", true}});
    const TrainResult first = train_with(3, base);
    std::vector<Options> ways(6, base);
    ways[1]["train.threads"] = std::int64_t{2};
    ways[2]["train.threads"] = std::int64_t{3};
    ways[2]["exchange.bucket_mib"] = 25.0;
    ways[3]["exchange.first_bucket_mib"] = 0.5;
    ways[3]["exchange.thread"] = std::string("on");
    ways[4]["exchange.algorithm"] = std::string("direct");
    ways[4]["exchange.bucket_mib"] = 0.05;
    ways[5]["exchange.shared_parameters"] = false;
    ways[5]["train.threads"] = std::int64_t{4};
    for (std::size_t i = 0; i < ways.size(); ++i) {
      SCOPED_TRACE("way " + std::to_string(i));
      const TrainResult again = train_with(3, ways[i]);
      EXPECT_EQ(first.loss, again.loss);
      expect_same_bits(first.checkpoint, again.checkpoint);
    }
    const TrainResult half = train_with(3, with(base, {{"train.max_steps", std::int64_t{2}}}));
    const TrainResult resumed = train_with(3, with(base, {{"train.threads", std::int64_t{2}}}), half.directory.string());
    expect_same_bits(first.checkpoint, resumed.checkpoint);
  }
}

}  // namespace
}  // namespace cohort
