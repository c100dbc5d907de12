// Adagrad: a learning rate per weight, smaller where gradients have been large.
#include <array>
#include <cmath>

#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {
namespace {

/// s ← s + g², w ← w − η g / (√s + ε) (Duchi, Hazan and Singer 2011, "Adaptive subgradient methods for online learning and
/// stochastic optimization", eq. 1 with the diagonal matrix of section 1.1).
struct AdagradRule {
  float rate, scale, decay, epsilon;
  COHORT_HD void operator()(float& w, const float& gradient, float& s) const {
    const float g = scale * gradient + decay * w;
    s += g * g;
    w -= rate * g / (std::sqrt(s) + epsilon);
  }
};

class Adagrad final : public Optimizer {
 public:
  explicit Adagrad(Section& section) {
    section.bind("epsilon", epsilon_, "added to the root of the sum of squares", above(0));
    section.bind("weight_decay", weight_decay_, "this times the weight is added to its gradient (L2)", at_least(0));
  }
  std::span<const std::string_view> slots() const override { return kSlots; }
  void update(Stream& stream, const ParameterSlice& p, std::span<const double>, const StepInfo& info) const override {
    const AdagradRule rule{p.rate(info), static_cast<float>(info.gradient_scale), p.decay(weight_decay_),
                           static_cast<float>(epsilon_)};
    apply(stream, rule, p.n, p.value, p.gradient, p.slots[0]);
  }

 private:
  static constexpr std::array<std::string_view, 1> kSlots = {"square_sum"};
  double epsilon_ = 1e-10, weight_decay_ = 0;
};

const Registered<OptimizerType> adagrad{"adagrad",
    {.make = [](Section& section) { return std::make_unique<Adagrad>(section); },
     .summary = "w ← w − η g / (√s + ε), s ← s + g²; η: the learning rate"}};

}  // namespace
}  // namespace cohort
