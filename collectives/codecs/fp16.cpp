// fp16: IEEE 754 binary16, rounded to nearest even: relative error 2^-12 between 6e-5 and 65504, an absolute one of 3e-8 below.
// Values from 65520 on become infinite, so a step with such gradients is skipped; NaN stays NaN. Sums are float32.

#include "sixteen_bits.hpp"

namespace cohort {
namespace {

/// The conversions of tensor/dtype.hpp with selections in place of branches.
struct Fp16 {
  static constexpr float kLargest = std::bit_cast<float>(0x477fefffu);
  static std::uint16_t to_bits(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    const std::uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
    const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    std::uint32_t bits = magnitude < 0x38800000u ? subnormal : normal;
    bits = magnitude >= 0x477ff000u ? 0x7c00u : bits;      // rounds to 65520 or more
    bits = magnitude > 0x7f800000u ? 0x7e00u : bits;
    return static_cast<std::uint16_t>(sign | bits);
  }
  /// Exponent and mantissa at float32's place are the number times 2^-112, subnormal or not.
  static float to_float(std::uint16_t half) {
    const std::uint32_t sign = (half & 0x8000u) << 16, rest = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
    const std::uint32_t finite = std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) * 0x1p112f);
    return std::bit_cast<float>(sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : finite));
  }
};

const Registered<CodecType> fp16{"fp16", {
    .summary = "IEEE half precision, half the bytes, relative error 2^-12 up to 65504",
    .make = [](Section&) { return std::make_unique<SixteenBits<Fp16>>(); },
}};

}  // namespace
}  // namespace cohort
