// Signum: steps of one size along the sign of the momentum (Bernstein et al. 2018, "signSGD", algorithm 2).
#include <array>
#include <cmath>

#include <cohort/cohort.hpp>

namespace {

struct SignumRule {
  float rate, scale, momentum;
  COHORT_HD void operator()(float& w, const float& gradient, float& m) const {
    m = momentum * m + (1 - momentum) * scale * gradient;
    w -= m == 0.f ? 0.f : std::copysign(rate, m);
  }
};

class Signum final : public cohort::Optimizer {
 public:
  explicit Signum(cohort::Section& section) {
    section.bind("momentum", momentum_, "share of the mean gradient that is kept", cohort::between(0, 1));
  }
  std::span<const std::string_view> slots() const override { return kSlots; }
  void update(cohort::Stream& stream, const cohort::ParameterSlice& p, std::span<const double>,
              const cohort::StepInfo& info) const override {
    const SignumRule rule{p.rate(info), static_cast<float>(info.gradient_scale), static_cast<float>(momentum_)};
    cohort::apply(stream, rule, p.n, p.value, p.gradient, p.slots[0]);
  }

 private:
  static constexpr std::array<std::string_view, 1> kSlots = {"m"};
  double momentum_ = 0.9;
};

const cohort::Registered<cohort::OptimizerType> signum{
    "signum", {[](cohort::Section& section) { return std::make_unique<Signum>(section); }}};

}  // namespace
