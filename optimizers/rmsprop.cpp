// RMSprop: steps of even size in every weight, from a running mean of squared gradients.
#include <cmath>

#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {
namespace {

/// s ← ρ s + (1 − ρ) g², w ← w − η g / (√s + ε) (Tieleman and Hinton 2012, "Neural networks for machine learning", lecture
/// 6.5). Centered: √(s − a²) with the running mean a ← ρ a + (1 − ρ) g (Graves 2013, "Generating sequences with recurrent
/// neural networks", eq. 38-40). With momentum: u ← μ u + g / (√s + ε), w ← w − η u (eq. 41-42, with η outside of u).
struct Rule {
  float rate, scale, decay, rho, rest, momentum, epsilon;

  COHORT_HD float gradient(float w, float g) const { return scale * g + decay * w; }
  COHORT_HD float keep(float mean, float x) const { return rho * mean + rest * x; }
  COHORT_HD float plain(float g, float& s) const {
    s = keep(s, g * g);
    return g / (std::sqrt(s) + epsilon);
  }
  COHORT_HD float centered(float g, float& s, float& a) const {
    s = keep(s, g * g);
    a = keep(a, g);
    const float variance = s - a * a;   // by rounding a hair below zero
    return g / (std::sqrt(variance > 0.f ? variance : 0.f) + epsilon);
  }
};
struct Plain : Rule {
  COHORT_HD void operator()(float& w, const float& g, float& s) const { w -= rate * plain(gradient(w, g), s); }
};
struct PlainMomentum : Rule {
  COHORT_HD void operator()(float& w, const float& g, float& s, float& u) const {
    u = momentum * u + plain(gradient(w, g), s);
    w -= rate * u;
  }
};
struct Centered : Rule {
  COHORT_HD void operator()(float& w, const float& g, float& s, float& a) const {
    w -= rate * centered(gradient(w, g), s, a);
  }
};
struct CenteredMomentum : Rule {
  COHORT_HD void operator()(float& w, const float& g, float& s, float& a, float& u) const {
    u = momentum * u + centered(gradient(w, g), s, a);
    w -= rate * u;
  }
};

class Rmsprop final : public Optimizer {
 public:
  explicit Rmsprop(Section& section) {
    section.bind("decay", decay_, "share of the mean squared gradient that is kept", between(0, 1));
    section.bind("momentum", momentum_, "share of the last step that is kept", between(0, 1));
    section.bind("epsilon", epsilon_, "added to the root of the mean square", above(0));
    section.bind("centered", centered_, "divide by the standard deviation: the mean gradient is taken off");
    section.bind("weight_decay", weight_decay_, "this times the weight is added to its gradient (L2)", at_least(0));
    slots_ = {"square"};
    if (centered_) slots_.emplace_back("mean");
    if (momentum_ > 0) slots_.emplace_back("momentum");
  }
  std::span<const std::string_view> slots() const override { return slots_; }
  void update(Stream& stream, const ParameterSlice& p, std::span<const double>, const StepInfo& info) const override {
    const Rule rule{.rate = p.rate(info),
                    .scale = static_cast<float>(info.gradient_scale),
                    .decay = p.decay(weight_decay_),
                    .rho = static_cast<float>(decay_),
                    .rest = static_cast<float>(1 - decay_),
                    .momentum = static_cast<float>(momentum_),
                    .epsilon = static_cast<float>(epsilon_)};
    const auto run = [&](auto formula, auto*... state) { apply(stream, formula, p.n, p.value, p.gradient, state...); };
    if (centered_ && momentum_ > 0) run(CenteredMomentum{rule}, p.slots[0], p.slots[1], p.slots[2]);
    else if (centered_) run(Centered{rule}, p.slots[0], p.slots[1]);
    else if (momentum_ > 0) run(PlainMomentum{rule}, p.slots[0], p.slots[1]);
    else run(Plain{rule}, p.slots[0]);
  }

 private:
  double decay_ = 0.99, momentum_ = 0, epsilon_ = 1e-8, weight_decay_ = 0;
  bool centered_ = false;
  std::vector<std::string_view> slots_;
};

const Registered<OptimizerType> rmsprop{"rmsprop",
    {.make = [](Section& section) { return std::make_unique<Rmsprop>(section); },
     .summary = "w ← w − η g / (√s + ε), s a running mean of g²; η: the learning rate, outside of the momentum"}};

}  // namespace
}  // namespace cohort
