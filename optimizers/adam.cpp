// Adam and AdamW.
#include <array>
#include <cmath>

#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {
namespace {

/// m ← β1 m + (1 − β1) g, v ← β2 v + (1 − β2) g², w ← w − η m̂ / (√v̂ + ε), m̂ = m / (1 − β1ᵗ), v̂ = v / (1 − β2ᵗ)
/// (Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1). Weight decay λ is either part of the
/// gradient, g + λ w, or decoupled from it, w ← (1 − η λ) w − … (Loshchilov and Hutter 2019, "Decoupled weight decay
/// regularization", algorithm 2, with η for its product of rate and schedule).
struct AdamRule {
  float scale, decay, beta1, rest1, beta2, rest2, rate, root, epsilon, keep;   // rate: η / (1 − β1ᵗ), root: 1 / √(1 − β2ᵗ)
  COHORT_HD void operator()(float& w, const float& gradient, float& m, float& v) const {
    const float g = scale * gradient + decay * w;
    m = beta1 * m + rest1 * g;
    v = beta2 * v + rest2 * (g * g);
    w = keep * w - rate * m / (std::sqrt(v) * root + epsilon);
  }
};

class Adam final : public Optimizer {
 public:
  /// `adamw` decides the defaults: decoupled weight decay of 0.01, or none.
  Adam(Section& section, bool adamw) : weight_decay_(adamw ? 0.01 : 0), decoupled_(adamw) {
    section.bind("beta1", beta1_, "share of the mean gradient that is kept", between(0, 1));
    section.bind("beta2", beta2_, "share of the mean squared gradient that is kept", between(0, 1));
    section.bind("epsilon", epsilon_, "added to the root of the mean square", above(0));
    section.bind("weight_decay", weight_decay_, "how strongly weights are pulled to zero", at_least(0));
    if (!adamw) section.bind("decoupled", decoupled_, "decay the weight itself (as adamw does), not through its gradient");
    check(beta1_ < 1 && beta2_ < 1, Code::invalid_argument, section.path() + ": beta1 and beta2 must be below 1");
  }
  std::span<const std::string_view> slots() const override { return kSlots; }
  void update(Stream& stream, const ParameterSlice& p, std::span<const double>, const StepInfo& info) const override {
    const auto t = static_cast<double>(info.applied + 1);
    const float rate = p.rate(info), decay = p.decay(weight_decay_);
    const AdamRule rule{.scale = static_cast<float>(info.gradient_scale),
                        .decay = decoupled_ ? 0.f : decay,
                        .beta1 = static_cast<float>(beta1_),
                        .rest1 = static_cast<float>(1 - beta1_),
                        .beta2 = static_cast<float>(beta2_),
                        .rest2 = static_cast<float>(1 - beta2_),
                        .rate = static_cast<float>(rate / (1 - std::pow(beta1_, t))),
                        .root = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2_, t))),
                        .epsilon = static_cast<float>(epsilon_),
                        .keep = decoupled_ ? 1 - rate * decay : 1.f};
    apply(stream, rule, p.n, p.value, p.gradient, p.slots[0], p.slots[1]);
  }

 private:
  static constexpr std::array<std::string_view, 2> kSlots = {"m", "v"};
  double beta1_ = 0.9, beta2_ = 0.999, epsilon_ = 1e-8, weight_decay_;
  bool decoupled_;
};

const Registered<OptimizerType> adam{"adam",
    {.make = [](Section& section) { return std::make_unique<Adam>(section, false); },
     .summary = "w ← w − η m̂ / (√v̂ + ε), m and v running means of g and g²; η: the learning rate"}};
const Registered<OptimizerType> adamw{"adamw",
    {.make = [](Section& section) { return std::make_unique<Adam>(section, true); },
     .summary = "adam with decoupled weight decay: w ← (1 − η λ) w − …; η: the learning rate"}};

}  // namespace
}  // namespace cohort
