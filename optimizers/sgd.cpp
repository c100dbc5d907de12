// Stochastic gradient descent, plain or with momentum.
#include <array>

#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {
namespace {

/// w ← w − η g, where g holds the scale and the L2 term λ w already.
struct Plain {
  float rate, scale, decay;
  COHORT_HD void operator()(float& w, const float& gradient) const { w -= rate * (scale * gradient + decay * w); }
};

/// v ← μ v + g, w ← w − η v (Polyak 1964); with Nesterov's look-ahead w ← w − η (g + μ v) (Sutskever et al. 2013, "On the
/// importance of initialization and momentum in deep learning", eq. 3-4, written for the point that is looked ahead to).
/// η stays outside of v, so that v needs no correction when η changes (Goyal et al. 2017, "Accurate, large minibatch SGD",
/// eq. 9 and remark 2).
struct Momentum {
  float rate, scale, decay, momentum;
  bool nesterov;
  COHORT_HD void operator()(float& w, const float& gradient, float& v) const {
    const float g = scale * gradient + decay * w;
    v = momentum * v + g;
    w -= rate * (nesterov ? momentum * v + g : v);
  }
};

class Sgd final : public Optimizer {
 public:
  explicit Sgd(Section& section) {
    section.bind("momentum", momentum_, "share of the last step that is kept", between(0, 1));
    section.bind("nesterov", nesterov_, "step from where the momentum leads to; needs momentum");
    section.bind("weight_decay", weight_decay_, "this times the weight is added to its gradient (L2)", at_least(0));
    check(!nesterov_ || momentum_ > 0, Code::invalid_argument,
          section.path() + ".nesterov = true: needs " + section.path() + ".momentum > 0");
  }
  std::span<const std::string_view> slots() const override { return std::span(kSlots).first(momentum_ > 0 ? 1 : 0); }
  void update(Stream& stream, const ParameterSlice& p, std::span<const double>, const StepInfo& info) const override {
    const auto scale = static_cast<float>(info.gradient_scale);
    if (momentum_ > 0) {
      const Momentum rule{p.rate(info), scale, p.decay(weight_decay_), static_cast<float>(momentum_), nesterov_};
      apply(stream, rule, p.n, p.value, p.gradient, p.slots[0]);
    } else {
      apply(stream, Plain{p.rate(info), scale, p.decay(weight_decay_)}, p.n, p.value, p.gradient);
    }
  }

 private:
  static constexpr std::array<std::string_view, 1> kSlots = {"momentum"};
  double momentum_ = 0, weight_decay_ = 0;
  bool nesterov_ = false;
};

const Registered<OptimizerType> sgd{"sgd",
    {.make = [](Section& section) { return std::make_unique<Sgd>(section); },
     .summary = "v ← μ v + g, w ← w − η v: the learning rate η is outside of the momentum, a new one counts for all "
                "of v at once"}};

}  // namespace
}  // namespace cohort
