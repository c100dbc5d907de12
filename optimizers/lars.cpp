// LARS: layer-wise adaptive rates for SGD with very large batches.
#include <array>
#include <cmath>

#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {
namespace {

/// v ← μ v + η r (g + λ w), w ← w − v (You, Gitman and Ginsburg 2017, "Large batch training of convolutional networks",
/// algorithm 1; the learning rate is part of v, as there).
struct LarsRule {
  float step, scale, decay, momentum;   // step: η r
  COHORT_HD void operator()(float& w, const float& gradient, float& v) const {
    v = momentum * v + step * (scale * gradient + decay * w);
    w -= v;
  }
};

struct Square {
  COHORT_HD double operator()(const float& x) const { return static_cast<double>(x) * x; }
};

/// The local rate is r = τ ‖w‖ / (‖g‖ + λ ‖w‖) over a whole parameter. r = 1 where a norm is 0 (a parameter that starts at
/// zero would stay there for ever) and in groups with decay = false, whose small parameters LARS does not suit.
class Lars final : public Optimizer {
 public:
  explicit Lars(Section& section) {
    section.bind("trust", trust_, "trust coefficient: a step's length as a share of the weights' norm", above(0));
    section.bind("momentum", momentum_, "share of the last step that is kept", between(0, 1));
    section.bind("weight_decay", weight_decay_, "this times the weight is added to its gradient (L2)", at_least(0));
  }
  std::span<const std::string_view> slots() const override { return kSlots; }
  std::size_t sums() const override { return 2; }
  void partials(Stream& stream, const ParameterSlice& p, const StepInfo&, std::span<double> sums) const override {
    if (!p.group->decay) return;
    sums[0] += sum(stream, Square{}, p.n, p.value);
    sums[1] += sum(stream, Square{}, p.n, p.gradient);
  }
  void update(Stream& stream, const ParameterSlice& p, std::span<const double> sums, const StepInfo& info) const override {
    const LarsRule rule{.step = static_cast<float>(static_cast<double>(p.rate(info)) * local_rate(p, sums, info)),
                        .scale = static_cast<float>(info.gradient_scale),
                        .decay = p.decay(weight_decay_),
                        .momentum = static_cast<float>(momentum_)};
    apply(stream, rule, p.n, p.value, p.gradient, p.slots[0]);
  }

 private:
  double local_rate(const ParameterSlice& p, std::span<const double> sums, const StepInfo& info) const {
    if (!p.group->decay) return 1;
    const double w = std::sqrt(sums[0]), g = std::sqrt(sums[1]) * std::fabs(info.gradient_scale);
    return w > 0 && g > 0 ? trust_ * w / (g + weight_decay_ * w) : 1;
  }

  static constexpr std::array<std::string_view, 1> kSlots = {"momentum"};
  double trust_ = 0.001, momentum_ = 0.9, weight_decay_ = 0;
};

const Registered<OptimizerType> lars{"lars",
    {.make = [](Section& section) { return std::make_unique<Lars>(section); },
     .summary = "v ← μ v + η r (g + λ w), w ← w − v: the learning rate η is inside of the momentum, a new one counts "
                "for new gradients only"}};

}  // namespace
}  // namespace cohort
