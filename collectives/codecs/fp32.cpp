// fp32: floats travel as they are.

#include <cstring>

#include "cohort/comm/codec.hpp"

namespace cohort {
namespace {

class Fp32 final : public Codec {
 public:
  std::size_t wire_bytes(std::size_t n) const override { return n * sizeof(float); }

  void encode(const float* x, std::size_t n, std::byte* wire, float*, const ExchangeContext&) const override {
    if (n > 0) std::memcpy(wire, x, n * sizeof(float));   // exact: there is no error to feed back
  }

  void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how, const ExchangeContext&) const override {
    if (how == Accumulate::assign) {
      if (n > 0) std::memcpy(x, wire, n * sizeof(float));
      return;
    }
    const float* from = reinterpret_cast<const float*>(wire);   // wire buffers are aligned as floats are
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
