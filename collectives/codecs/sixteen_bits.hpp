#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "cohort/comm/codec.hpp"

namespace cohort {

/// Two bytes for each float, one by one: what bf16 and fp16 have in common. `Format` has static `to_bits(float) → uint16_t`
/// and `to_float(uint16_t) → float` without branches, so that the loops vectorise, and `kLargest` is the last float that
/// does not round to infinity. Where the decoded value is not finite (the step is going to be skipped) the residual stays as
/// it was.
template <class Format>
class SixteenBits final : public Codec {
 public:
  std::size_t wire_bytes(std::size_t n) const override { return 2 * n; }

  void encode(const float* x, std::size_t n, std::byte* wire, float* residual, const ExchangeContext&) const override {
    auto* to = reinterpret_cast<std::uint16_t*>(wire);
    if (residual == nullptr) {
      for (std::size_t i = 0; i < n; ++i) to[i] = Format::to_bits(x[i]);
      return;
    }
#pragma GCC ivdep   // x, wire and residual are apart
    for (std::size_t i = 0; i < n; ++i) {
      const float wanted = x[i] + residual[i];
      to[i] = Format::to_bits(wanted);
      const float lost = wanted - Format::to_float(to[i]);
      const bool finite = (std::bit_cast<std::uint32_t>(lost) & 0x7f800000u) != 0x7f800000u;
      residual[i] = finite ? lost : residual[i];
    }
  }

  void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how, const ExchangeContext&) const override {
    const auto* from = reinterpret_cast<const std::uint16_t*>(wire);
    if (how == Accumulate::assign) {
      for (std::size_t i = 0; i < n; ++i) x[i] = Format::to_float(from[i]);
    } else {
      for (std::size_t i = 0; i < n; ++i) x[i] += Format::to_float(from[i]);
    }
  }

  bool exact() const noexcept override { return false; }
  float largest() const noexcept override { return Format::kLargest; }
};

}  // namespace cohort
