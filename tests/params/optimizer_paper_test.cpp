// Every optimizer's first steps against its paper (optimizer_rules.hpp), and against PyTorch's values.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <map>

#include "params/optimizer_rules.hpp"
#include "params/torch_values.hpp"
#include "params/trainee.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
struct PaperCase {
  OptimizerCase how;
  Rule rule;
};

std::vector<PaperCase> paper_cases() {
  return {
      {{"sgd"}, sgd(0, false, 0)},
      {{"sgd", {{"weight_decay", 0.1}}}, sgd(0, false, 0.1)},
      {{"sgd", {{"momentum", 0.9}, {"weight_decay", 0.1}}}, sgd(0.9, false, 0.1)},
      {{"sgd", {{"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 0.1}}}, sgd(0.9, true, 0.1)},
      {{"adam"}, adam(0.9, 0.999, 1e-8, 0, 0)},
      {{"adam", {{"beta1", 0.8}, {"beta2", 0.95}, {"epsilon", 1e-3}, {"weight_decay", 0.1}}}, adam(0.8, 0.95, 1e-3, 0.1, 0)},
      {{"adam", {{"weight_decay", 0.1}, {"decoupled", true}}}, adam(0.9, 0.999, 1e-8, 0, 0.1)},
      {{"adamw"}, adam(0.9, 0.999, 1e-8, 0, 0.01)},
      {{"adamw", {{"weight_decay", 0.2}}}, adam(0.9, 0.999, 1e-8, 0, 0.2)},
      {{"adagrad"}, adagrad(1e-10, 0)},
      {{"adagrad", {{"epsilon", 0.01}, {"weight_decay", 0.1}}}, adagrad(0.01, 0.1)},
      {{"rmsprop"}, rmsprop(0.99, 0, 1e-8, false, 0)},
      {{"rmsprop", {{"decay", 0.9}, {"momentum", 0.8}, {"weight_decay", 0.1}}}, rmsprop(0.9, 0.8, 1e-8, false, 0.1)},
      {{"rmsprop", {{"decay", 0.9}, {"epsilon", 0.01}, {"centered", true}}}, rmsprop(0.9, 0, 0.01, true, 0)},
      {{"rmsprop", {{"momentum", 0.5}, {"epsilon", 0.01}, {"centered", true}}}, rmsprop(0.99, 0.5, 0.01, true, 0)},
      {{"lars"}, lars(0.001, 0.9, 0)},
      {{"lars", {{"trust", 0.02}, {"momentum", 0.8}, {"weight_decay", 0.1}}}, lars(0.02, 0.8, 0.1)},
      {{"lamb"}, lamb(0.9, 0.999, 1e-6, 0.01)},
      {{"lamb", {{"beta1", 0.8}, {"beta2", 0.9}, {"epsilon", 0.01}, {"weight_decay", 0.1}}}, lamb(0.8, 0.9, 0.01, 0.1)},
  };
}

class AgainstPaper : public ::testing::TestWithParam<PaperCase> {};

/// Ten steps with a rate that changes, a gradient scale, a rate factor, with and without decay.
void follow(const PaperCase& one, double scale, double factor, bool decays) {
  constexpr std::size_t kSize = 37;
  Trainee trainee(one.how, noise(kSize, 100));
  trainee.group = {.learning_rate_factor = factor, .decay = decays};
  Paper paper{.w = Vector(trainee.value.begin(), trainee.value.end()), .a = Vector(kSize), .b = Vector(kSize),
              .c = Vector(kSize)};
  paper.decays = decays;
  for (int t = 0; t < 10; ++t) {
    const auto gradient = noise(kSize, static_cast<std::uint64_t>(t));
    const double rate = t < 5 ? 0.05 : 0.02;
    trainee.step(gradient, {.step = t, .applied = t, .learning_rate = rate, .gradient_scale = scale});
    Vector g(gradient.begin(), gradient.end());
    for (double& x : g) x *= scale;
    paper.t = t + 1;
    one.rule(paper, g, rate * factor);
    for (std::size_t i = 0; i < kSize; ++i) {
      ASSERT_NEAR(trainee.value[i], paper.w[i], 2e-6 * (1 + std::fabs(paper.w[i]))) << "step " << t << ", weight " << i;
    }
  }
}

TEST_P(AgainstPaper, TenSteps) { follow(GetParam(), 1, 1, true); }
TEST_P(AgainstPaper, TenStepsScaledGradient) { follow(GetParam(), 0.3, 1, true); }
TEST_P(AgainstPaper, TenStepsOfAGroupWithoutDecay) { follow(GetParam(), 1, 0.5, false); }

INSTANTIATE_TEST_SUITE_P(Optimizers, AgainstPaper, ::testing::ValuesIn(paper_cases()),
                         [](const auto& one) { return one.param.how.text() + "_" + std::to_string(one.index); });

TEST(Optimizers, NesterovIsSutskeversLookAhead) {
  // At a constant rate the two forms are the same sequence.
  Trainee trainee({"sgd", {{"momentum", 0.9}, {"nesterov", true}}}, noise(11, 1));
  Paper paper{.w = Vector(trainee.value.begin(), trainee.value.end()), .a = Vector(11), .b = Vector(11), .c = Vector(11)};
  for (int t = 0; t < 10; ++t, ++paper.t) {
    const auto gradient = noise(11, static_cast<std::uint64_t>(20 + t));
    trainee.step(gradient, {.step = t, .applied = t, .learning_rate = 0.1});
    sutskever(0.9)(paper, Vector(gradient.begin(), gradient.end()), 0.1);
    for (std::size_t i = 0; i < 11; ++i) ASSERT_NEAR(trainee.value[i], paper.w[i], 1e-5) << t;
  }
}

TEST(Optimizers, LayersThatStartAtZeroDoLearn) {
  for (const char* type : {"lars", "lamb"}) {
    Trainee trainee({type}, {0, 0, 0});
    trainee.step({1, -1, 0.5}, {.step = 0, .applied = 0, .learning_rate = 0.1});
    EXPECT_LT(trainee.value[0], 0) << type;
    EXPECT_GT(trainee.value[1], 0) << type;
  }
}

TEST(Optimizers, EveryOneHasItsPaperOrSaysSo) {
  std::map<std::string, int> covered;
  for (const auto& one : paper_cases()) ++covered[one.how.type];
  for (const auto& type : Registry<OptimizerType>::instance().names()) {
    if (!covered.contains(type)) std::cout << "note: " << type << " has no paper here, its properties are tested\n";
    covered.erase(type);
  }
  EXPECT_TRUE(covered.empty()) << covered.begin()->first << " is not registered";
}

TEST(Optimizers, FollowPyTorch) {
  for (const TorchCase& one : torch_cases()) {
    Trainee trainee(one.how, {1.0f, -0.5f, 0.25f, 2.0f, -3.0f});
    for (int t = 0; t < 10; ++t) {
      std::vector<float> gradient(5);
      for (int i = 0; i < 5; ++i) gradient[static_cast<std::size_t>(i)] = static_cast<float>((7 * t + 3 * i) % 11 - 5) / 8;
      trainee.step(gradient, {.step = t, .applied = t, .learning_rate = one.learning_rate});
    }
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(trainee.value[i], one.values[i], 2e-6 * (1 + std::fabs(one.values[i]))) << one.how.text() << " " << i;
    }
  }
}

}  // namespace
}  // namespace cohort
