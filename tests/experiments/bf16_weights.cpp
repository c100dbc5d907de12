// Momentum SGD on weights that are bfloat16 and nothing else: after each update they are rounded, to nearest even or
// stochastically. What such weights lose is what float32 master weights are for (Kalamkar et al. 2019, section 3).
#include <array>
#include <bit>
#include <cmath>
#include <string>

#include "cohort/base/random.hpp"
#include "cohort/params/optimizer.hpp"

namespace cohort {
namespace {

float nearest(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

float stochastic(float x, std::uint32_t random) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + (random & 0xffffu)) & 0xffff0000u);
}

class SgdOnBf16 final : public Optimizer {
 public:
  explicit SgdOnBf16(Section& section) {
    section.bind("momentum", momentum_, "share of the last step that is kept", between(0, 1));
    section.bind("rounding", rounding_, "of the weights", one_of({"nearest", "stochastic"}));
    section.bind("seed", seed_, "of stochastic rounding");
  }
  std::span<const std::string_view> slots() const override { return kSlots; }

  void update(Stream&, const ParameterSlice& p, std::span<const double>, const StepInfo& info) const override {
    const float scale = static_cast<float>(info.gradient_scale), rate = p.rate(info), momentum = static_cast<float>(momentum_);
    const std::uint64_t stream = static_cast<std::uint64_t>(info.step) << 16 ^ p.parameter;
    for (std::int64_t i = 0; i < p.n; ++i) {
      float& v = p.slots[0][i];
      v = momentum * v + scale * p.gradient[i];
      const float w = p.value[i] - rate * v;
      if (!std::isfinite(w)) {
        p.value[i] = w;
      } else if (rounding_ == "nearest") {
        p.value[i] = nearest(w);
      } else {   // a slice does not know its place in the parameter; the bits of momentum and weight differ as well
        const std::uint64_t place = static_cast<std::uint64_t>(std::bit_cast<std::uint32_t>(v)) << 32 | std::bit_cast<std::uint32_t>(w);
        p.value[i] = stochastic(w, random_bits(seed_, stream, place));
      }
    }
  }

 private:
  static constexpr std::array<std::string_view, 1> kSlots = {"momentum"};
  double momentum_ = 0;
  std::string rounding_ = "nearest";
  std::uint64_t seed_ = 1;
};

const Registered<OptimizerType> type{"sgd_on_bf16", {[](Section& section) { return std::make_unique<SgdOnBf16>(section); }}};

}  // namespace
}  // namespace cohort
