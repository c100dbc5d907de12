// Every registered optimizer, with random options, lengths, cuts and steps, against its paper's formula in double.
// How many cases, and how to repeat one: support/random_sweep.hpp.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "params/optimizer_rules.hpp"
#include "support/random_sweep.hpp"
#include "params/trainee.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;

struct SweepCase {
  OptimizerCase how;
  Rule rule;
};

/// Options that the section takes, away from where a formula amplifies the rounding of its inputs without bounds: a divisor
/// that may be nothing but a tiny epsilon.
using MakeCase = std::function<SweepCase(Draw&)>;

SweepCase adam_case(Draw& draw, const std::string& type) {
  const double b1 = draw.pick({0.0, 0.5, 0.9, 0.99}), b2 = draw.pick({0.0, 0.5, 0.9, 0.999});
  const double epsilon = b2 == 0 ? 1.0 : draw.pick({1e-8, 1e-3, 1.0}), decay = draw.pick({0.0, 0.01, 0.3});
  const bool decoupled = type == "adamw" || draw.chance(0.5);
  OptimizerCase how{type, {{"beta1", b1}, {"beta2", b2}, {"epsilon", epsilon}, {"weight_decay", decay}}};
  if (type == "adam") how.options.emplace_back("decoupled", decoupled);
  return {how, adam(b1, b2, epsilon, decoupled ? 0 : decay, decoupled ? decay : 0)};
}

SweepCase sgd_case(Draw& draw) {
  const double momentum = draw.pick({0.0, 0.5, 0.9, 1.0}), decay = draw.pick({0.0, 0.01, 0.3});
  const bool nesterov = momentum > 0 && draw.chance(0.5);
  return {{"sgd", {{"momentum", momentum}, {"nesterov", nesterov}, {"weight_decay", decay}}},
          sgd(momentum, nesterov, decay)};
}

SweepCase adagrad_case(Draw& draw) {
  const double epsilon = draw.pick({1e-10, 1e-3, 1.0}), decay = draw.pick({0.0, 0.01, 0.3});
  return {{"adagrad", {{"epsilon", epsilon}, {"weight_decay", decay}}}, adagrad(epsilon, decay)};
}

SweepCase rmsprop_case(Draw& draw) {
  const bool centered = draw.chance(0.5);
  const double rho = centered ? draw.pick({0.5, 0.9, 0.99}) : draw.pick({0.0, 0.5, 0.9, 0.99});
  const double epsilon = rho == 0 ? 1.0 : draw.pick({1e-8, 1e-3, 1.0});
  const double momentum = draw.pick({0.0, 0.5, 0.9, 1.0}), decay = draw.pick({0.0, 0.01, 0.3});
  const OptimizerCase how{"rmsprop", {{"decay", rho}, {"momentum", momentum}, {"epsilon", epsilon},
                                      {"centered", centered}, {"weight_decay", decay}}};
  return {how, rmsprop(rho, momentum, epsilon, centered, decay)};
}

SweepCase lars_case(Draw& draw) {
  const double trust = draw.pick({0.001, 0.02, 1.0}), momentum = draw.pick({0.0, 0.5, 0.9, 1.0});
  const double decay = draw.pick({0.0, 0.01, 0.3});
  return {{"lars", {{"trust", trust}, {"momentum", momentum}, {"weight_decay", decay}}}, lars(trust, momentum, decay)};
}

SweepCase lamb_case(Draw& draw) {
  const double b1 = draw.pick({0.0, 0.5, 0.9, 0.99}), b2 = draw.pick({0.0, 0.5, 0.9, 0.999});
  const double epsilon = b2 == 0 ? 1.0 : draw.pick({1e-6, 1e-3, 1.0}), decay = draw.pick({0.0, 0.01, 0.3});
  return {{"lamb", {{"beta1", b1}, {"beta2", b2}, {"epsilon", epsilon}, {"weight_decay", decay}}},
          lamb(b1, b2, epsilon, decay)};
}

const std::map<std::string, MakeCase>& makers() {
  static const std::map<std::string, MakeCase> all = {
      {"sgd", sgd_case},
      {"adam", [](Draw& draw) { return adam_case(draw, "adam"); }},
      {"adamw", [](Draw& draw) { return adam_case(draw, "adamw"); }},
      {"adagrad", adagrad_case},
      {"rmsprop", rmsprop_case},
      {"lars", lars_case},
      {"lamb", lamb_case},
  };
  return all;
}

/// `n` floats somewhere in a buffer, so that they begin at any multiple of 4 bytes, between others that nobody may touch.
class Placed {
 public:
  static constexpr float kGuard = 1234.5f;
  Placed(std::size_t n, std::size_t offset, float value) : offset_(offset), all_(offset + n + 16, kGuard) {
    std::fill_n(data(), n, value);
    n_ = n;
  }
  [[nodiscard]] float* data() { return all_.data() + offset_; }
  [[nodiscard]] bool guarded() const {
    const auto mine = all_.begin() + static_cast<std::ptrdiff_t>(offset_);
    const auto is_guard = [](float x) { return x == kGuard; };
    return std::all_of(all_.begin(), mine, is_guard) &&
           std::all_of(mine + static_cast<std::ptrdiff_t>(n_), all_.end(), is_guard);
  }

 private:
  std::size_t offset_, n_ = 0;
  std::vector<float> all_;
};

/// A parameter that is updated slice by slice.
struct Updated {
  Updated(const Optimizer& the_optimizer, std::size_t n, Draw& draw)
      : optimizer(the_optimizer), value(n, draw.below(17), 0), gradient(n, draw.below(17), 0) {
    for (std::size_t s = 0; s < optimizer.slots().size(); ++s) slots.emplace_back(n, draw.below(17), 0.f);
    const std::size_t pieces = draw.below(4);
    for (std::size_t i = 0; i < pieces; ++i) cuts.push_back(draw.below(n + 1));
    cuts.insert(cuts.end(), {0, n});
    std::ranges::sort(cuts);
  }
  void step(const ParameterGroup& group, const StepInfo& info) {
    std::vector<double> sums(optimizer.sums(), 0.0);
    for (int turn = sums.empty() ? 1 : 0; turn < 2; ++turn) {
      for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
        std::vector<float*> pieces;
        for (Placed& slot : slots) pieces.push_back(slot.data() + cuts[c]);
        const ParameterSlice slice{.group = &group,
                                   .value = value.data() + cuts[c],
                                   .gradient = gradient.data() + cuts[c],
                                   .slots = pieces,
                                   .n = static_cast<std::int64_t>(cuts[c + 1] - cuts[c])};
        if (turn == 0) optimizer.partials(host().stream(), slice, info, sums);
        else optimizer.update(host().stream(), slice, sums, info);
      }
    }
    host().stream().synchronize();
  }
  const Optimizer& optimizer;
  Placed value, gradient;
  std::vector<Placed> slots;
  std::vector<std::size_t> cuts;
};

/// Gradients of one step: ordinary ones, sparse ones, none, or large ones.
float gradient_at(Draw& draw, int kind) {
  if (kind == 0 || (kind == 1 && draw.chance(0.7))) return 0;
  return static_cast<float>(kind == 2 ? draw.normal() * 50 : draw.normal());
}

void follow(Draw& draw, const MakeCase& make) {
  const SweepCase one = make(draw);
  const std::unique_ptr<Optimizer> optimizer = one.how.make();
  const std::size_t n = draw.length(3000);
  Updated updated(*optimizer, n, draw);
  const ParameterGroup group{.learning_rate_factor = draw.pick({1.0, 0.25, 0.0, 3.0}), .decay = draw.chance(0.7)};
  Paper paper{.w = Vector(n), .a = Vector(n), .b = Vector(n), .c = Vector(n)};
  paper.decays = group.decay;
  const bool starts_at_zero = draw.chance(0.1);
  Vector way(n);                    // how far each weight has come, which is what the float's rounding is to be measured by
  for (std::size_t i = 0; i < n; ++i) {
    paper.w[i] = static_cast<double>(updated.value.data()[i] = starts_at_zero ? 0.f : static_cast<float>(draw.normal()));
    way[i] = 1 + std::fabs(paper.w[i]);
  }
  const int steps = 1 + static_cast<int>(draw.below(6));
  for (int t = 0; t < steps; ++t) {
    const int kind = draw.pick({0, 1, 2, 3, 3, 3});
    const double rate = draw.pick({1e-3, 1e-2, 5e-2}), scale = draw.pick({1.0, 1.0, 0.3, 1e-3});
    Vector g(n);
    for (std::size_t i = 0; i < n; ++i) {
      g[i] = scale * static_cast<double>(updated.gradient.data()[i] = gradient_at(draw, kind));
    }
    updated.step(group, {.step = t, .applied = t, .learning_rate = rate, .previous_learning_rate = rate, .gradient_scale = scale});
    paper.t = t + 1;
    const Vector before = paper.w;
    one.rule(paper, g, rate * group.learning_rate_factor);
    for (std::size_t i = 0; i < n; ++i) {
      way[i] += std::fabs(paper.w[i] - before[i]);
      ASSERT_NEAR(updated.value.data()[i], paper.w[i], 1e-5 * way[i])
          << one.how.text() << ", step " << t << ", weight " << i << " of " << n;
    }
    ASSERT_TRUE(updated.value.guarded() && updated.gradient.guarded()) << one.how.text() << " wrote outside of its slice";
    for (const Placed& slot : updated.slots) ASSERT_TRUE(slot.guarded()) << one.how.text() << " wrote outside of a slot";
  }
}

class OptimizerSweep : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Registry, OptimizerSweep, ::testing::ValuesIn(Registry<OptimizerType>::instance().names()),
                         [](const auto& one) { return one.param; });

TEST_P(OptimizerSweep, FollowsItsPaper) {
  const auto found = makers().find(GetParam());
  ASSERT_NE(found, makers().end()) << GetParam() << " has no formula: give it one here and in optimizer_rules.hpp";
  sweep(GetParam(), [&](Draw& draw) { follow(draw, found->second); });
}

}  // namespace
}  // namespace cohort
