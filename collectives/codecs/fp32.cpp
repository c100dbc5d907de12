// fp32: floats travel as they are.

#include <cmath>
#include <cstring>

#include "cohort/comm/codec.hpp"

namespace cohort {
namespace {

class Fp32 final : public Codec {
 public:
  std::size_t wire_bytes(std::size_t n) const override { return n * sizeof(float); }

  void encode(const float* x, std::size_t n, std::byte* wire, float* residual, const ExchangeContext&) const override {
    if (residual == nullptr) {
      if (n > 0) std::memcpy(wire, x, n * sizeof(float));
      return;
    }
    auto* to = reinterpret_cast<float*>(wire);   // wire buffers are aligned as floats are
    for (std::size_t i = 0; i < n; ++i) {
      to[i] = x[i] + residual[i];
      if (std::isfinite(to[i])) residual[i] = 0;   // all of it is on the wire
    }
  }

  void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how, const ExchangeContext&) const override {
    if (how == Accumulate::assign) {
      if (n > 0) std::memcpy(x, wire, n * sizeof(float));
      return;
    }
    const float* from = reinterpret_cast<const float*>(wire);
    for (std::size_t i = 0; i < n; ++i) x[i] += from[i];
  }

  bool exact() const noexcept override { return true; }
  bool plain() const noexcept override { return true; }
};

const Registered<CodecType> fp32{"fp32", {
    .summary = "float32 as it is, exact",
    .make = [](Section&) { return std::make_unique<Fp32>(); },
}};

}  // namespace
}  // namespace cohort
