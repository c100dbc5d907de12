// Schedules against closed forms at the boundaries, and the options that make no sense.
#include "cohort/params/schedule.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using cohort::testing::error_of;
using ::testing::HasSubstr;
using Options = std::vector<std::pair<std::string, std::variant<bool, std::int64_t, double, std::string, OptionList>>>;

Schedule schedule(const Options& options) {
  Section section("schedule");
  section.set("learning_rate", {0.5, "test"});
  for (const auto& [key, value] : options) section.set(key, {value, "test"});
  const Schedule result(section);
  section.finish();
  return result;
}

OptionList list(std::initializer_list<double> values) {
  OptionList result(values.size());
  std::transform(values.begin(), values.end(), result.begin(), [](double x) { return OptionValue{x, "test"}; });
  return result;
}

constexpr TrainingLength kLength{.steps_per_epoch = 10, .total_steps = 100, .global_batch = 64};

TEST(Schedule, ConstantIsConstant) {
  const Schedule s = schedule({});
  for (const std::int64_t step : {0, 1, 99, 100, 100000}) EXPECT_EQ(s.rate(step, kLength), 0.5) << step;
}

TEST(Schedule, StepDropsAtTheFirstStepOfAMilestone) {
  const Schedule s = schedule({{"type", "step"}, {"milestones", list({3, 6, 8.5})}, {"factor", 0.5}});
  EXPECT_EQ(s.rate(0, kLength), 0.5);
  EXPECT_EQ(s.rate(29, kLength), 0.5);
  EXPECT_EQ(s.rate(30, kLength), 0.25);
  EXPECT_EQ(s.rate(59, kLength), 0.25);
  EXPECT_EQ(s.rate(60, kLength), 0.125);
  EXPECT_EQ(s.rate(84, kLength), 0.125);
  EXPECT_EQ(s.rate(85, kLength), 0.0625);
  EXPECT_EQ(s.rate(1000, kLength), 0.0625);
}

TEST(Schedule, StepEveryNEpochs) {
  const Schedule s = schedule({{"type", "step"}, {"every", 2.5}, {"factor", 0.5}});
  for (const std::int64_t step : {0, 24, 25, 49, 50, 75, 99}) {
    EXPECT_DOUBLE_EQ(s.rate(step, kLength), 0.5 * std::pow(0.5, static_cast<double>(step / 25))) << step;
  }
  const Schedule often = schedule({{"type", "step"}, {"every", 0.01}, {"factor", 0.5}});   // never twice in one step
  EXPECT_EQ(often.rate(3, kLength), 0.0625);
}

TEST(Schedule, CosineLinearAndPolynomialReachTheirEnds) {
  const Schedule cosine = schedule({{"type", "cosine"}}), linear = schedule({{"type", "linear"}, {"final_fraction", 0.2}});
  const Schedule square = schedule({{"type", "polynomial"}, {"power", 2.0}, {"final_fraction", 0.1}});
  EXPECT_DOUBLE_EQ(cosine.rate(0, kLength), 0.5);
  EXPECT_DOUBLE_EQ(cosine.rate(50, kLength), 0.25);
  EXPECT_DOUBLE_EQ(cosine.rate(25, kLength), 0.25 * (1 + std::sqrt(0.5)));
  EXPECT_NEAR(cosine.rate(100, kLength), 0, 1e-16);
  EXPECT_NEAR(cosine.rate(150, kLength), 0, 1e-16);
  EXPECT_DOUBLE_EQ(linear.rate(0, kLength), 0.5);
  EXPECT_DOUBLE_EQ(linear.rate(50, kLength), 0.3);
  EXPECT_DOUBLE_EQ(linear.rate(100, kLength), 0.1);
  EXPECT_DOUBLE_EQ(linear.rate(101, kLength), 0.1);
  EXPECT_DOUBLE_EQ(square.rate(50, kLength), 0.5 * (0.1 + 0.9 * 0.25));
  EXPECT_DOUBLE_EQ(square.rate(100, kLength), 0.05);
}

TEST(Schedule, WarmUpRisesLinearlyThenTheRestIsStretched) {
  const Schedule s = schedule({{"type", "linear"}, {"warmup_epochs", 2.0}, {"warmup_from", 0.25}});
  EXPECT_EQ(s.warmup_steps(kLength), 20);
  EXPECT_DOUBLE_EQ(s.rate(0, kLength), 0.125);
  EXPECT_DOUBLE_EQ(s.rate(10, kLength), 0.5 * 0.625);
  EXPECT_DOUBLE_EQ(s.rate(20, kLength), 0.5);
  EXPECT_DOUBLE_EQ(s.rate(60, kLength), 0.25);
  EXPECT_DOUBLE_EQ(s.rate(100, kLength), 0);
  for (std::int64_t step = 0; step < 100; ++step) {
    EXPECT_EQ(s.rate(step, kLength) < s.rate(step + 1, kLength), step < 20) << step;
  }
}

TEST(Schedule, WarmUpInStepsAndMilestonesCountFromTheStart) {
  const Schedule s = schedule({{"type", "step"}, {"milestones", list({3})}, {"warmup_steps", std::int64_t{7}}});
  EXPECT_DOUBLE_EQ(s.rate(0, kLength), 0.05);
  EXPECT_DOUBLE_EQ(s.rate(7, kLength), 0.5);
  EXPECT_DOUBLE_EQ(s.rate(29, kLength), 0.5);
  EXPECT_DOUBLE_EQ(s.rate(30, kLength), 0.05);
}

TEST(Schedule, TrainingShorterThanItsWarmUp) {
  const Schedule s = schedule({{"type", "cosine"}, {"warmup_steps", std::int64_t{200}}});
  EXPECT_LT(s.rate(100, kLength), 0.5);
  EXPECT_DOUBLE_EQ(s.rate(200, kLength), 0.5);
  EXPECT_NEAR(s.rate(201, kLength), 0, 1e-16);
}

TEST(Schedule, ScalesWithTheGlobalBatch) {
  const Schedule s = schedule(
      {{"scale_with_batch", true}, {"reference_batch", std::int64_t{256}}, {"warmup_steps", std::int64_t{4}}});
  TrainingLength length = kLength;
  for (const std::int64_t batch : {64, 256, 8192}) {
    length.global_batch = batch;
    EXPECT_DOUBLE_EQ(s.rate(10, length), 0.5 * static_cast<double>(batch) / 256);
    EXPECT_DOUBLE_EQ(s.rate(0, length), 0.05 * static_cast<double>(batch) / 256);
  }
  EXPECT_EQ(schedule({}).rate(0, length), 0.5);
}

TEST(Schedule, OptionsThatMakeNoSense) {
  const auto error = [](const Options& options) { return error_of([&] { static_cast<void>(schedule(options)); }); };
  EXPECT_THAT(error({{"type", "cosinus"}}),
              HasSubstr("one of: constant step cosine linear polynomial; did you mean 'cosine'?"));
  EXPECT_THAT(error({{"type", "step"}}), HasSubstr("needs either milestones or every"));
  EXPECT_THAT(error({{"type", "step"}, {"every", 2.0}, {"milestones", list({3})}}), HasSubstr("either milestones or every"));
  EXPECT_THAT(error({{"type", "step"}, {"milestones", list({3, 2})}}), HasSubstr("must ascend"));
  EXPECT_THAT(error({{"warmup_steps", std::int64_t{1}}, {"warmup_epochs", 1.0}}), HasSubstr("not both"));
  EXPECT_THAT(error({{"reference_batch", std::int64_t{128}}}), HasSubstr("only with schedule.scale_with_batch = true"));
  EXPECT_THAT(error({{"final_fraction", 0.1}}), HasSubstr("unknown key 'schedule.final_fraction'"));
  EXPECT_THAT(error({{"warmup_from", 1.5}}), HasSubstr("0 <= value <= 1"));
}

}  // namespace
}  // namespace cohort
