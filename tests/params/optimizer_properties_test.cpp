// What holds for every optimizer, found through the registry: a new one is tested by being there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "params/trainee.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;

/// Every registered type with its defaults, and some known ones with the options that change their slots.
std::vector<OptimizerCase> all_cases() {
  std::vector<OptimizerCase> cases;
  for (const auto& type : Registry<OptimizerType>::instance().names()) cases.push_back({type});
  for (const bool centered : {false, true}) cases.push_back({"rmsprop", {{"momentum", 0.9}, {"centered", centered}}});
  for (const bool nesterov : {false, true}) cases.push_back({"sgd", {{"momentum", 0.9}, {"nesterov", nesterov}}});
  cases.push_back({"adam", {{"weight_decay", 0.1}}});
  cases.push_back({"lars", {{"weight_decay", 0.1}}});
  return cases;
}

class EveryOptimizer : public ::testing::TestWithParam<OptimizerCase> {};
INSTANTIATE_TEST_SUITE_P(Registry, EveryOptimizer, ::testing::ValuesIn(all_cases()),
                         [](const auto& one) { return one.param.text() + "_" + std::to_string(one.index); });

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_same_state(const Trainee& a, const Trainee& b, const std::string& what) {
  EXPECT_TRUE(same_bits(a.value, b.value)) << what << ": values differ";
  for (std::size_t s = 0; s < a.slots.size(); ++s) {
    EXPECT_TRUE(same_bits(a.slots[s], b.slots[s])) << what << ": slot " << a.optimizer->slots()[s] << " differs";
  }
}

/// Half of sum a_i (w_i - c_i)^2 with a in [0.2, 1.8), after some steps.
double quadratic_after(const OptimizerCase& how, double rate, int steps) {
  constexpr std::size_t kSize = 20;
  const auto curvature = noise(kSize, 1), target = noise(kSize, 2);
  Trainee trainee(how, noise(kSize, 3));
  const auto slope = [&](std::size_t i) { return (1 + 0.8f * curvature[i]) * (trainee.value[i] - target[i]); };
  for (int t = 0; t < steps; ++t) {
    std::vector<float> gradient(kSize);
    for (std::size_t i = 0; i < kSize; ++i) gradient[i] = slope(i);
    trainee.step(gradient, {.step = t, .applied = t, .learning_rate = rate, .previous_learning_rate = rate});
  }
  double loss = 0;
  for (std::size_t i = 0; i < kSize; ++i) loss += 0.5 * slope(i) * (trainee.value[i] - target[i]);
  return loss;
}

TEST_P(EveryOptimizer, DescendsAConvexQuadraticAtSomeRate) {
  const double start = quadratic_after(GetParam(), 0, 0);
  double best = start;
  for (const double rate : {1e-3, 1e-2, 1e-1, 1.0, 10.0}) {
    const double loss = quadratic_after(GetParam(), rate, 200);
    if (std::isfinite(loss)) best = std::min(best, loss);
  }
  EXPECT_LT(best, 0.1 * start);
}

TEST_P(EveryOptimizer, SlicesGiveTheBitsOfTheWhole) {
  constexpr std::size_t kSize = 1009;
  const std::vector<std::int64_t> cuts = {0, 1, 2, 5, 16, 16, 31, 100, 500, 997};
  Trainee whole(GetParam(), noise(kSize, 4)), sliced(GetParam(), noise(kSize, 4));
  for (int t = 0; t < 6; ++t) {
    const auto gradient = noise(kSize, static_cast<std::uint64_t>(10 + t));
    const StepInfo info{.step = t, .applied = t, .learning_rate = 0.1, .previous_learning_rate = 0.1, .gradient_scale = 0.7};
    whole.step(gradient, info);
    const auto sums = whole.sums;   // the slices' own differ in the last bit of a double
    sliced.step(gradient, info, cuts, &sums);
    for (std::size_t s = 0; s < sums.size(); ++s) EXPECT_NEAR(sliced.sums[s], sums[s], 1e-12 * sums[s]) << "sum " << s;
    expect_same_state(whole, sliced, "step " + std::to_string(t));
  }
}

TEST_P(EveryOptimizer, ALateStreamGivesTheSameBits) {
  Trainee now(GetParam(), noise(333, 5)), late(GetParam(), noise(333, 5));
  LateStream stream;
  late.stream = &stream;
  for (int t = 0; t < 3; ++t) {
    const auto gradient = noise(333, static_cast<std::uint64_t>(30 + t));
    now.step(gradient, {.step = t, .applied = t, .learning_rate = 0.1});
    late.step(gradient, {.step = t, .applied = t, .learning_rate = 0.1});
  }
  expect_same_state(now, late, "late stream");
}

TEST_P(EveryOptimizer, DoesNothingToAnEmptySlice) {
  Trainee trainee(GetParam(), {});
  trainee.step({}, {.step = 0, .applied = 0, .learning_rate = 0.1});
  for (const double sum : trainee.sums) EXPECT_EQ(sum, 0);
}

TEST_P(EveryOptimizer, WithoutGradientAndDecayNothingMoves) {
  const auto start = noise(50, 6);
  Trainee trainee(GetParam(), start);
  trainee.group.decay = false;
  for (int t = 0; t < 3; ++t) trainee.step(std::vector<float>(50, 0.f), {.step = t, .applied = t, .learning_rate = 0.1});
  EXPECT_TRUE(same_bits(trainee.value, start));
}

TEST_P(EveryOptimizer, ARateFactorOfZeroMovesNothing) {
  const auto start = noise(50, 6);
  Trainee trainee(GetParam(), start);
  trainee.group.learning_rate_factor = 0;
  for (int t = 0; t < 3; ++t) trainee.step(noise(50, 7), {.step = t, .applied = t, .learning_rate = 0.1});
  EXPECT_TRUE(same_bits(trainee.value, start));
}

/// People who change the rate in the middle of a run want to know whether old gradients go on at the old one.
TEST_P(EveryOptimizer, ItsSummarySaysWhereTheRateIs) {
  Trainee trainee(GetParam(), noise(50, 6));
  trainee.group.decay = false;
  trainee.step(noise(50, 7), {.step = 0, .applied = 0, .learning_rate = 0.1, .previous_learning_rate = 0.1});
  const auto before = trainee.value;
  trainee.step(std::vector<float>(50, 0.f), {.step = 1, .applied = 1, .learning_rate = 0, .previous_learning_rate = 0.1});
  const std::string& summary = Registry<OptimizerType>::instance().get(GetParam().type).summary;
  EXPECT_NE(summary.find("learning rate"), std::string::npos) << summary;
  EXPECT_EQ(summary.find("inside of the momentum") != std::string::npos, !same_bits(trainee.value, before)) << summary;
}

TEST_P(EveryOptimizer, ARateFactorIsARate) {
  Trainee factor(GetParam(), noise(50, 6)), rate(GetParam(), noise(50, 6));
  factor.group.learning_rate_factor = 0.25;
  for (int t = 0; t < 3; ++t) {
    const auto gradient = noise(50, static_cast<std::uint64_t>(40 + t));
    factor.step(gradient, {.step = t, .applied = t, .learning_rate = 0.5});
    rate.step(gradient, {.step = t, .applied = t, .learning_rate = 0.125});
  }
  expect_same_state(factor, rate, "rate factor");
}

TEST_P(EveryOptimizer, TheGradientScaleScalesTheGradient) {
  Trainee by_scale(GetParam(), noise(50, 8)), by_hand(GetParam(), noise(50, 8));
  for (int t = 0; t < 4; ++t) {
    const auto gradient = noise(50, static_cast<std::uint64_t>(50 + t));
    auto scaled = gradient;
    for (float& x : scaled) x *= 0.25f;   // a power of two: exact
    by_scale.step(gradient, {.step = t, .applied = t, .learning_rate = 0.1, .gradient_scale = 0.25});
    by_hand.step(scaled, {.step = t, .applied = t, .learning_rate = 0.1});
  }
  expect_same_state(by_scale, by_hand, "gradient scale");
}

TEST_P(EveryOptimizer, PaddingStaysZeroAndChangesNothingElse) {
  constexpr std::size_t kSize = 40, kPadding = 24;
  Trainee bare(GetParam(), noise(kSize, 9)), padded(GetParam(), noise(kSize, 9));
  padded.value.resize(kSize + kPadding, 0.f);
  for (auto& slot : padded.slots) slot.resize(kSize + kPadding, 0.f);
  for (int t = 0; t < 5; ++t) {
    auto gradient = noise(kSize, static_cast<std::uint64_t>(60 + t));
    bare.step(gradient, {.step = t, .applied = t, .learning_rate = 0.1});
    gradient.resize(kSize + kPadding, 0.f);
    padded.step(gradient, {.step = t, .applied = t, .learning_rate = 0.1});
  }
  EXPECT_TRUE(std::all_of(padded.value.begin() + kSize, padded.value.end(), [](float x) { return x == 0; }));
  padded.value.resize(kSize);
  for (auto& slot : padded.slots) {
    EXPECT_TRUE(std::all_of(slot.begin() + kSize, slot.end(), [](float x) { return x == 0; }));
    slot.resize(kSize);
  }
  expect_same_state(bare, padded, "padding");
}

TEST_P(EveryOptimizer, SlotsHaveNamesOfTheirOwn) {
  const auto optimizer = GetParam().make();
  std::vector<std::string_view> names(optimizer->slots().begin(), optimizer->slots().end());
  for (const auto name : names) EXPECT_FALSE(name.empty());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(Optimizers, UnknownTypesAndOptionsNameTheKnownOnes) {
  const auto error = [](const OptimizerCase& how) {
    try {
      static_cast<void>(how.make());
    } catch (const Error& caught) {
      return std::string(caught.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(error({"sdg"}).find("did you mean 'sgd'?"), std::string::npos) << error({"sdg"});
  EXPECT_NE(error({"adam", {{"beta_1", 0.9}}}).find("did you mean 'beta1'?"), std::string::npos);
  EXPECT_EQ(error({"sgd", {{"nesterov", true}}}), "optimizer.nesterov = true: needs optimizer.momentum > 0");
  EXPECT_NE(error({"adam", {{"beta2", 1.0}}}).find("must be below 1"), std::string::npos);
}

}  // namespace
}  // namespace cohort
