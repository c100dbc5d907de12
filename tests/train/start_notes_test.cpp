// What a run says at its start because people would not expect it: a codec that nothing travels through, a schedule that the run
// does not come to the end of, a learning rate that jumps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/training.hpp"

namespace cohort {
namespace {

using testing::numbers;
using testing::Options;
using testing::TemporaryFolder;
using testing::with;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class StartNotes : public ::testing::Test {
 protected:
  /// 4 updates per epoch on one rank, 2 on two.
  [[nodiscard]] Options options(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.epochs", std::int64_t{5}}, {"model.type", std::string("mlp")},
                 {"model.hidden", numbers({80})}, {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{96}},
                 {"data.train.shape", numbers({8, 8, 1})}, {"data.batch", std::int64_t{24}}, {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("sgd")}, {"schedule.learning_rate", 0.1}, {"exchange.dense_steps", std::int64_t{0}},
                 {"exchange.network.latency_us", 5.0}, {"exchange.network.bandwidth_gbs", 12.5}, {"exchange.network.node_latency_us", 0.5},
                 {"exchange.network.node_bandwidth_gbs", 10.0}, {"exchange.network.sum_gbs", 20.0}},
                changes);
  }

  /// What rank 0 prints.
  std::string said(int ranks, const Options& changes, const std::string& resume = {}, const std::vector<int>& nodes = {}) {
    ::testing::internal::CaptureStdout();
    directory_ = testing::train_with(ranks, options(changes), resume, nodes).directory.string();
    return ::testing::internal::GetCapturedStdout();
  }

  TemporaryFolder folder_;
  std::string directory_;      // of the last run
};

const Options kInt8 = {{"exchange.codec", std::string("int8")}, {"train.max_steps", std::int64_t{2}}};
constexpr const char* kNoEffect = "exchange.codec = \"int8\" has no effect: ";

TEST_F(StartNotes, ACodecThatNothingTravelsThroughIsNamedWithTheReason) {
  const auto reason = [&](const std::string& text) { return HasSubstr(kNoEffect + text); };
  const std::vector<int> apart{0, 1};
  EXPECT_THAT(said(2, kInt8), reason("all ranks are on one machine"));
  EXPECT_THAT(said(2, with(kInt8, {{"exchange.shared_parameters", false}})), reason("all ranks are on one machine"));
  EXPECT_THAT(said(2, with(kInt8, {{"train.updater", std::string("sharded")}})), reason("all ranks are on one machine"));
  EXPECT_THAT(said(1, kInt8), reason("one rank sends no gradients"));
  EXPECT_THAT(said(2, with(kInt8, {{"exchange.dense_steps", std::int64_t{2}}}), {}, apart), reason("all 2 steps are among the first 2"));
  EXPECT_THAT(said(2, with(kInt8, {{"exchange.small_elements", std::int64_t{1} << 20}}), {}, apart), reason("all tensors are small and go in "));
  EXPECT_THAT(said(2, with(kInt8, {{"train.updater", std::string("local_sgd")}}), {}, apart), reason("this updater sends no gradients"));
}

TEST_F(StartNotes, ACodecOfParametersOrOfParameterTasksIsNamedAsWell) {
  const Options stage_3 = {{"train.updater", std::string("sharded")}, {"updater.stage", std::int64_t{3}}, {"updater.gather_codec", std::string("bf16")},
                           {"train.max_steps", std::int64_t{1}}};
  EXPECT_THAT(said(2, stage_3), HasSubstr("updater.gather_codec = \"bf16\" has no effect: all ranks are on one machine"));
  EXPECT_THAT(said(2, stage_3, {}, {0, 1}), Not(HasSubstr("has no effect")));
  const Options tasks = with(kInt8, {{"train.updater", std::string("async")}});
  EXPECT_THAT(said(2, with(tasks, {{"exchange.dense_steps", std::int64_t{2}}})), HasSubstr(std::string(kNoEffect) + "all 2 steps are among the first 2"));
  EXPECT_THAT(said(2, tasks), Not(HasSubstr("has no effect")));
}

TEST_F(StartNotes, ACodecThatIsUsedIsNot) {
  EXPECT_THAT(said(2, kInt8, {}, {0, 1}), Not(HasSubstr("has no effect")));
  EXPECT_THAT(said(2, with(kInt8, {{"exchange.dense_steps", std::int64_t{1}}}), {}, {0, 1}), Not(HasSubstr("has no effect")));
  EXPECT_THAT(said(2, with(kInt8, {{"exchange.algorithm", std::string("direct")}})), Not(HasSubstr("has no effect")));
  EXPECT_THAT(said(2, with(kInt8, {{"exchange.codec", std::string("fp32")}})), Not(HasSubstr("has no effect")));
}

const Options kSixSteps = {{"train.max_steps", std::int64_t{6}}};
const Options kCosine = {{"schedule.type", std::string("cosine")}};
Options dropping(double epoch) { return {{"schedule.type", std::string("step")}, {"schedule.milestones", OptionList{{epoch, "test"}}}}; }

TEST_F(StartNotes, AScheduleThatMaxStepsCutsShortIsNamedWithItsRates) {
  EXPECT_THAT(said(1, with(kSixSteps, kCosine)),
              HasSubstr("train.max_steps = 6 cuts the cosine schedule short, which is made for the 20 steps of train.epochs = 5: the learning rate "
                        "ends at 0.08536, not at 0.0006156\n"));
  EXPECT_THAT(said(1, with(kSixSteps, dropping(3))), HasSubstr("cuts the step schedule short, which is made for the 20 steps of train.epochs = 5: "
                                                              "the learning rate ends at 0.1, not at 0.01\n"));
  EXPECT_THAT(said(1, with(kSixSteps, {{"schedule.warmup_steps", std::int64_t{12}}, {"schedule.warmup_from", 0.0}})),
              HasSubstr("the run ends in update 6 of the 12 of the schedule's warm-up: the learning rate comes to 0.04167, not to 0.1\n"));
  // The first two epochs on one rank: 8 updates, then 2 per epoch. The ninth is that of 4 of 10 as the schedule counts in its phase.
  EXPECT_THAT(said(2, with(kCosine, {{"train.max_steps", std::int64_t{9}}, {"warmup.replicas", std::int64_t{1}}, {"warmup.epochs", std::int64_t{2}}})),
              HasSubstr("which is made for the 14 steps of train.epochs = 5: the learning rate ends at 0.06545, not at 0.002447\n"));
}

TEST_F(StartNotes, AScheduleThatComesToItsEndIsNot) {
  for (const Options& whole : {kCosine, with(kCosine, {{"train.max_steps", std::int64_t{20}}}), kSixSteps, with(kSixSteps, dropping(1)),
                               Options{{"schedule.warmup_epochs", 1.0}}}) {
    EXPECT_THAT(said(1, whole), AllOf(Not(HasSubstr("short")), Not(HasSubstr("warm-up"))));
  }
}

TEST_F(StartNotes, ALearningRateThatJumpsWhenARunIsExtendedIsNamed) {
  const auto epochs = [](std::int64_t n) { return with(kCosine, {{"train.epochs", n}}); };
  (void)said(1, epochs(2));
  EXPECT_THAT(said(1, epochs(4), directory_), HasSubstr("the learning rate jumps from 0.003806, in the last update of the checkpoint, to 0.05: [schedule], "
                                                        "train.epochs or the batch are not what they were; the cosine schedule is one over 4 epochs now\n"));
  (void)said(1, kSixSteps);
  EXPECT_THAT(said(1, {{"schedule.learning_rate", 0.02}}, directory_), HasSubstr("the learning rate jumps from 0.1, in the last update of the checkpoint, to 0.02: "));
}

TEST_F(StartNotes, ARunThatOnlyGoesOnIsNot) {
  for (const int before : {1, 2}) {
    for (const int now : {1, 2}) {      // with another batch as well
      (void)said(before, with(kSixSteps, kCosine));
      EXPECT_THAT(said(now, kCosine, directory_), AllOf(HasSubstr("resumed from"), Not(HasSubstr("jumps")))) << before << " ranks, then " << now;
    }
  }
  (void)said(1, {{"train.epochs", std::int64_t{2}}});
  EXPECT_THAT(said(1, {{"train.epochs", std::int64_t{3}}}, directory_), Not(HasSubstr("jumps"))) << "constant";
}

}  // namespace
}  // namespace cohort
