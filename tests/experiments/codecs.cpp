// Two codecs of very few bits, with which error feedback decides; only here, in a plug-in, since they are no good otherwise.
//
//   ternary   -1, 0 or 1 times the block's largest magnitude, to the nearest: 2 bits each (after TernGrad, Wen et al. 2017)
//   sign      the sign times the block's mean magnitude: 1 bit each (after EF-SGD, Karimireddy et al. 2019; zero counts as +)
//
// Wire: a float32 scale per block, then the bits, from the lowest of each byte up. A block with a NaN or an infinity has the
// scale NaN, so it is NaN as a whole, and keeps its residual.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cohort/comm/codec.hpp"

namespace cohort {
namespace {

struct Ternary {
  static constexpr std::size_t kBits = 2;
  static constexpr std::int64_t kBlock = 4096;
  static float scale(const float* v, std::size_t n) {
    float most = 0;
    for (std::size_t i = 0; i < n; ++i) most = std::max(most, std::fabs(v[i]));
    return most;
  }
  static unsigned pack(float v, float scale) { return static_cast<unsigned>(static_cast<int>(std::nearbyint(v / scale)) + 1); }
  static float unpack(unsigned bits, float scale) { return (static_cast<float>(bits) - 1) * scale; }
};

struct Sign {
  static constexpr std::size_t kBits = 1;
  static constexpr std::int64_t kBlock = 1024;
  static float scale(const float* v, std::size_t n) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += std::fabs(v[i]);
    return n > 0 ? static_cast<float>(sum / static_cast<double>(n)) : 0.f;
  }
  static unsigned pack(float v, float) { return v < 0 ? 0 : 1; }
  static float unpack(unsigned bits, float scale) { return bits == 0 ? -scale : scale; }
};

template <class Rule>
class FewBits final : public Codec {
 public:
  explicit FewBits(Section& section) {
    std::int64_t block = Rule::kBlock;
    section.bind("block", block, "elements that share a scale", between(256, 1 << 20));
    block_ = static_cast<std::size_t>(block);
  }

  std::size_t wire_bytes(std::size_t n) const override { return blocks(n) * sizeof(float) + (n * Rule::kBits + 7) / 8; }

  void encode(const float* x, std::size_t n, std::byte* wire, float* residual, const ExchangeContext&) const override {
    auto* bytes = reinterpret_cast<unsigned char*>(wire + blocks(n) * sizeof(float));
    std::memset(bytes, 0, (n * Rule::kBits + 7) / 8);
    std::vector<float> v(block_);
    for (std::size_t begin = 0, b = 0; begin < n; begin += block_, ++b) {
      const std::size_t count = std::min(block_, n - begin);
      bool finite = true;
      for (std::size_t i = 0; i < count; ++i) {
        v[i] = x[begin + i] + (residual == nullptr ? 0.f : residual[begin + i]);
        finite = finite && std::isfinite(v[i]);
      }
      const float scale = finite ? Rule::scale(v.data(), count) : std::numeric_limits<float>::quiet_NaN();
      std::memcpy(wire + b * sizeof(float), &scale, sizeof scale);
      if (!finite) continue;
      for (std::size_t i = 0; i < count; ++i) {
        const unsigned bits = scale > 0 ? Rule::pack(v[i], scale) : 1;
        put(bytes, begin + i, bits);
        if (residual != nullptr) residual[begin + i] = v[i] - Rule::unpack(bits, scale);
      }
    }
  }

  void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how, const ExchangeContext&) const override {
    const auto* bytes = reinterpret_cast<const unsigned char*>(wire + blocks(n) * sizeof(float));
    for (std::size_t begin = 0, b = 0; begin < n; begin += block_, ++b) {
      float scale;
      std::memcpy(&scale, wire + b * sizeof(float), sizeof scale);
      for (std::size_t i = begin; i < std::min(begin + block_, n); ++i) {
        const float decoded = Rule::unpack(get(bytes, i), scale);
        x[i] = how == Accumulate::add ? x[i] + decoded : decoded;
      }
    }
  }

  bool exact() const noexcept override { return false; }
  bool wants_feedback() const noexcept override { return true; }

 private:
  static constexpr std::size_t kPerByte = 8 / Rule::kBits;
  static void put(unsigned char* bytes, std::size_t i, unsigned bits) {
    bytes[i / kPerByte] = static_cast<unsigned char>(bytes[i / kPerByte] | bits << i % kPerByte * Rule::kBits);
  }
  static unsigned get(const unsigned char* bytes, std::size_t i) {
    return static_cast<unsigned>(bytes[i / kPerByte]) >> i % kPerByte * Rule::kBits & ((1u << Rule::kBits) - 1);
  }
  [[nodiscard]] std::size_t blocks(std::size_t n) const { return (n + block_ - 1) / block_; }

  std::size_t block_;
};

template <class Rule>
CodecType few_bits(const std::string& summary) {
  return {.summary = summary, .make = [](Section& section) { return std::make_unique<FewBits<Rule>>(section); }};
}
const Registered<CodecType> ternary{"ternary", few_bits<Ternary>("-1, 0 or 1 times the block's largest magnitude")};
const Registered<CodecType> sign{"sign", few_bits<Sign>("the sign times the block's mean magnitude")};

}  // namespace
}  // namespace cohort
