// LAMB: layer-wise adaptive rates for Adam with very large batches.
#include <array>
#include <cmath>

#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {
namespace {

/// m ← β1 m + (1 − β1) g, v ← β2 v + (1 − β2) g², u = m̂ / (√v̂ + ε) + λ w, w ← w − η r u (You et al. 2020, "Large batch
/// optimization for deep learning: training BERT in 76 minutes", algorithm 2, φ the identity). The norm of u is needed
/// before the update, so u can be had from the old m and v.
struct LambRule {
  float scale, decay, beta1, rest1, beta2, rest2, correct1, correct2, epsilon, step;   // step: η r

  COHORT_HD float mean(float m, float g) const { return beta1 * m + rest1 * (scale * g); }
  COHORT_HD float square(float v, float g) const { return beta2 * v + rest2 * ((scale * g) * (scale * g)); }
  COHORT_HD float direction(float w, float m, float v) const {
    return m * correct1 / (std::sqrt(v * correct2) + epsilon) + decay * w;
  }
  COHORT_HD void operator()(float& w, const float& g, float& m, float& v) const {
    m = mean(m, g);
    v = square(v, g);
    w -= step * direction(w, m, v);
  }
};

struct WeightSquare {
  COHORT_HD double operator()(const float& w) const { return static_cast<double>(w) * w; }
};
struct DirectionSquare {
  LambRule rule;
  COHORT_HD double operator()(const float& w, const float& g, const float& m, const float& v) const {
    const double u = rule.direction(w, rule.mean(m, g), rule.square(v, g));
    return u * u;
  }
};

/// The trust ratio is r = ‖w‖ / ‖u‖ over a whole parameter; 1 where a norm is 0 (a parameter that starts at zero would stay
/// there for ever) and in groups with decay = false, whose small parameters LAMB does not suit.
class Lamb final : public Optimizer {
 public:
  explicit Lamb(Section& section) {
    section.bind("beta1", beta1_, "share of the mean gradient that is kept", between(0, 1));
    section.bind("beta2", beta2_, "share of the mean squared gradient that is kept", between(0, 1));
    section.bind("epsilon", epsilon_, "added to the root of the mean square", above(0));
    section.bind("weight_decay", weight_decay_, "how strongly weights are pulled to zero", at_least(0));
    check(beta1_ < 1 && beta2_ < 1, Code::invalid_argument, section.path() + ": beta1 and beta2 must be below 1");
  }
  std::span<const std::string_view> slots() const override { return kSlots; }
  std::size_t sums() const override { return 2; }
  void partials(Stream& stream, const ParameterSlice& p, const StepInfo& info, std::span<double> sums) const override {
    if (!p.group->decay) return;
    sums[0] += sum(stream, WeightSquare{}, p.n, p.value);
    sums[1] += sum(stream, DirectionSquare{rule(p, info, 1)}, p.n, p.value, p.gradient, p.slots[0], p.slots[1]);
  }
  void update(Stream& stream, const ParameterSlice& p, std::span<const double> sums, const StepInfo& info) const override {
    const bool scaled = p.group->decay && sums[0] > 0 && sums[1] > 0;
    const double ratio = scaled ? std::sqrt(sums[0]) / std::sqrt(sums[1]) : 1;
    apply(stream, rule(p, info, ratio), p.n, p.value, p.gradient, p.slots[0], p.slots[1]);
  }

 private:
  LambRule rule(const ParameterSlice& p, const StepInfo& info, double ratio) const {
    const auto t = static_cast<double>(info.applied + 1);
    return {.scale = static_cast<float>(info.gradient_scale),
            .decay = p.decay(weight_decay_),
            .beta1 = static_cast<float>(beta1_),
            .rest1 = static_cast<float>(1 - beta1_),
            .beta2 = static_cast<float>(beta2_),
            .rest2 = static_cast<float>(1 - beta2_),
            .correct1 = static_cast<float>(1 / (1 - std::pow(beta1_, t))),
            .correct2 = static_cast<float>(1 / (1 - std::pow(beta2_, t))),
            .epsilon = static_cast<float>(epsilon_),
            .step = static_cast<float>(static_cast<double>(p.rate(info)) * ratio)};
  }

  static constexpr std::array<std::string_view, 2> kSlots = {"m", "v"};
  double beta1_ = 0.9, beta2_ = 0.999, epsilon_ = 1e-6, weight_decay_ = 0.01;
};

const Registered<OptimizerType> lamb{"lamb",
    {.make = [](Section& section) { return std::make_unique<Lamb>(section); },
     .summary = "w ← w − η ‖w‖ / ‖u‖ · u, u: adam's step + λ w; η: the learning rate"}};

}  // namespace
}  // namespace cohort
