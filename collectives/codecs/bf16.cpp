// bf16: the upper half of a float32, rounded to nearest even (relative error 2^-9 at most, the range of float32). Values that
// round beyond the largest bfloat16 become infinite; NaN stays NaN (of another payload). Sums are float32.

#include "cohort/tensor/dtype.hpp"
#include "sixteen_bits.hpp"

namespace cohort {
namespace {

struct Bf16 {
  static constexpr float kLargest = std::bit_cast<float>(0x7f7f7fffu);
  static std::uint16_t to_bits(float x) { return bfloat16(x).bits; }
  static float to_float(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

const Registered<CodecType> bf16{"bf16", {
    .summary = "bfloat16, half the bytes, relative error 2^-9",
    .make = [](Section&) { return std::make_unique<SixteenBits<Bf16>>(); },
}};

}  // namespace
}  // namespace cohort
