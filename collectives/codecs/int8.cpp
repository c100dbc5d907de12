// int8: a byte for each float and a float32 scale for each block of them. A block's scale is its largest magnitude / 127, so
// that each number is within half a scale of what was meant (rounding to nearest even), or within one and right on average
// (stochastic). Sums are float32.
//
// Wire: the scales of all blocks, then the bytes. Blocks are counted from the start of the run; collectives cut buckets at
// multiples of 256 elements, so that blocks that divide 256 are the same whatever is cut, and of longer ones the last of
// each run is shorter.
//
// A block with a NaN or an infinity has the scale NaN: it is NaN as a whole wherever it is decoded, so that every rank sees
// it. Its residual stays as it was.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cohort/base/random.hpp"
#include "cohort/comm/codec.hpp"

namespace cohort {
namespace {

constexpr std::uint32_t kInfinity = 0x7f800000u;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::size_t kUsualBlock = 256;
constexpr float kRound = 12582912.f;   // 1.5 · 2^23: x + kRound rounds to an integer, which is in the low bits then

/// Blocks whose largest magnitude has bits below these have scales among subnormal numbers, or near them.
constexpr std::uint32_t kTiny = std::bit_cast<std::uint32_t>(0x1p-100f);
/// 127 times this is finite.
constexpr float kMostStep = std::bit_cast<float>(std::bit_cast<std::uint32_t>(std::numeric_limits<float>::max() / 127) - 1);
static_assert(kMostStep * 127.0 < std::numeric_limits<float>::max());

struct Scale {
  float step = 0;      // what goes on the wire
  float inverse = 0;   // 1 / step; 0 where it would be infinite or not exact enough: then divide by the step
};

/// Of the largest magnitude's bits, where they are between kTiny and infinity.
Scale usual_scale(std::uint32_t bits) {
  const float largest = std::bit_cast<float>(bits);
  return {.step = std::min(largest / 127, kMostStep), .inverse = 127 / largest};
}

/// Of all others. NaN and infinity have the largest bits.
Scale rare_scale(std::uint32_t bits) {
  if (bits >= kInfinity) return {.step = kNaN, .inverse = kNaN};
  // Among subnormal numbers the step itself is coarse: up, so that 127 steps reach the largest.
  const float largest = std::bit_cast<float>(bits);
  const float step = largest / 127;
  return {.step = 127.0 * static_cast<double>(step) < static_cast<double>(largest) ? std::nextafter(step, 1.f) : step, .inverse = 0};
}

/// Uniform numbers in [0, 1) for stochastic rounding, by place in the bucket.
class Dither {
 public:
  Dither(std::uint64_t seed, const ExchangeContext& c)
      : seed_(seed), stream_((static_cast<std::uint64_t>(c.step) * 0x9E3779B97F4A7C15ull) ^
                             (static_cast<std::uint64_t>(c.rank) << 40) ^ static_cast<std::uint64_t>(c.bucket)) {}
  void fill(std::size_t first, std::size_t n, float* to) const {
    for (std::size_t i = 0; i < n;) {
      const auto words = philox(seed_, stream_, (first + i) / 4);
      for (std::size_t j = (first + i) % 4; j < 4 && i < n; ++j) to[i++] = static_cast<float>(words[j] >> 8) * 0x1p-24f;
    }
  }

 private:
  std::uint64_t seed_, stream_;
};

struct Int8Options {
  std::int64_t block = kUsualBlock;
  std::string rounding = "nearest";
  std::uint64_t seed = 1;

  explicit Int8Options(Section& section) {
    section.bind("block", block, "elements that share a scale: a power of two", between(32, kMostBlock));
    section.bind("rounding", rounding, "nearest: to the nearest, ties to even; stochastic: up or down, right on average", one_of({"nearest", "stochastic"}));
    section.bind("seed", seed, "of stochastic rounding, with step, rank and place");
    check(std::has_single_bit(static_cast<std::uint64_t>(block)), Code::invalid_argument,
          section.path() + ".block = " + std::to_string(block) + ": must be a power of two");
  }
  static constexpr std::int64_t kMostBlock = 4096;
};

class Int8 final : public Codec {
 public:
  explicit Int8(const Int8Options& options)
      : block_(static_cast<std::size_t>(options.block)), stochastic_(options.rounding == "stochastic"), seed_(options.seed) {}

  std::size_t wire_bytes(std::size_t n) const override { return blocks(n) * sizeof(float) + n; }

  void encode(const float* x, std::size_t n, std::byte* wire, float* residual, const ExchangeContext& context) const override {
    const Run run{.x = x, .residual = residual, .n = n};
    const std::size_t usual = block_ == kUsualBlock ? n / kUsualBlock : 0;
    if (residual == nullptr) {
      encode_blocks<false, kUsualBlock>(run, 0, usual, wire, context);
      encode_blocks<false, 0>(run, usual, blocks(n), wire, context);
    } else {
      encode_blocks<true, kUsualBlock>(run, 0, usual, wire, context);
      encode_blocks<true, 0>(run, usual, blocks(n), wire, context);
    }
  }

  void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how, const ExchangeContext&) const override {
    const auto* bytes = reinterpret_cast<const std::int8_t*>(wire + blocks(n) * sizeof(float));
    for (std::size_t begin = 0, b = 0; begin < n; begin += block_, ++b) {
      float step;
      std::memcpy(&step, wire + b * sizeof(float), sizeof step);
      const std::size_t count = std::min(block_, n - begin);
      if (how == Accumulate::assign) decode_block<false>(bytes + begin, count, step, x + begin);
      else decode_block<true>(bytes + begin, count, step, x + begin);
    }
  }

  bool exact() const noexcept override { return false; }
  bool wants_feedback() const noexcept override { return true; }

 private:
  [[nodiscard]] std::size_t blocks(std::size_t n) const { return (n + block_ - 1) / block_; }

  struct Run {
    const float* x;
    float* residual;
    std::size_t n;
  };
  [[nodiscard]] Run block(const Run& run, std::size_t b) const {
    const std::size_t begin = b * block_;
    return {.x = run.x + begin, .residual = run.residual == nullptr ? nullptr : run.residual + begin, .n = std::min(block_, run.n - begin)};
  }

  /// Some blocks at a time, so that no block waits for its largest number and the division by it. `N`: the elements of each, known
  /// to the compiler; 0: any.
  template <bool Feedback, std::size_t N>
  void encode_blocks(const Run& run, std::size_t begin, std::size_t end, std::byte* wire, const ExchangeContext& context) const {
    constexpr std::size_t kGroup = 4;
    std::byte* bytes = wire + blocks(run.n) * sizeof(float);
    std::array<std::uint32_t, kGroup> bits;
    for (std::size_t first = begin; first < end; first += kGroup) {
      const std::size_t last = std::min(first + kGroup, end);
      for (std::size_t b = first; b < last; ++b) bits[b - first] = largest<Feedback, N>(block(run, b));
      for (std::size_t b = first; b < last; ++b) {
        const std::uint32_t these = bits[b - first];
        const bool usual = these >= kTiny && these < kInfinity;
        const Scale scale = usual ? usual_scale(these) : rare_scale(these);
        encode_block<Feedback, N>(block(run, b), reinterpret_cast<std::int8_t*>(bytes + b * block_), scale,
                                  context.offset + b * block_, context);
        std::memcpy(wire + b * sizeof(float), &scale.step, sizeof scale.step);
      }
    }
  }

  template <bool Feedback, std::size_t N>
  static std::uint32_t largest(const Run& run) {
    std::uint32_t bits = 0;
    const std::size_t n = N > 0 ? N : run.n;
    for (std::size_t i = 0; i < n; ++i) {
      float v = run.x[i];
      if constexpr (Feedback) v += run.residual[i];
      bits = std::max(bits, std::bit_cast<std::uint32_t>(v) & 0x7fffffffu);
    }
    return bits;
  }

  template <bool Feedback, std::size_t N>
  void encode_block(const Run& run, std::int8_t* to, const Scale& scale, std::size_t place, const ExchangeContext& context) const {
    if (std::isnan(scale.step) || scale.step == 0) {
      std::memset(to, 0, run.n);
      if (Feedback && scale.step == 0) std::fill_n(run.residual, run.n, 0.f);
      return;
    }
    if (stochastic_ || scale.inverse == 0) return encode_rarely<Feedback>(run, to, scale, place, context);
    const std::size_t n = N > 0 ? N : run.n;
#pragma GCC ivdep   // x, wire and residual are apart
    for (std::size_t i = 0; i < n; ++i) {
      float v = run.x[i];
      if constexpr (Feedback) v += run.residual[i];
      const float rounded = v * scale.inverse + kRound;
      to[i] = static_cast<std::int8_t>(std::bit_cast<std::int32_t>(rounded));
      if constexpr (Feedback) run.residual[i] = v - (rounded - kRound) * scale.step;
    }
  }

  /// Stochastic rounding, and blocks of tiny numbers.
  template <bool Feedback>
  void encode_rarely(const Run& run, std::int8_t* to, const Scale& scale, std::size_t place, const ExchangeContext& context) const {
    constexpr std::size_t kStrip = 64;
    const Dither dither(seed_, context);
    std::array<float, kStrip> up;
    for (std::size_t i = 0; i < run.n; ++i) {
      if (stochastic_ && i % kStrip == 0) dither.fill(place + i, std::min(kStrip, run.n - i), up.data());
      float v = run.x[i];
      if constexpr (Feedback) v += run.residual[i];
      const float steps = scale.inverse == 0 ? v / scale.step : v * scale.inverse;
      const float q = std::clamp(stochastic_ ? std::floor(steps + up[i % kStrip]) : std::nearbyint(steps), -127.f, 127.f);
      to[i] = static_cast<std::int8_t>(q);
      if constexpr (Feedback) run.residual[i] = v - q * scale.step;
    }
  }

  template <bool Add>
  static void decode_block(const std::int8_t* from, std::size_t n, float step, float* x) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) {
      const float decoded = static_cast<float>(from[i]) * step;
      if constexpr (Add) x[i] += decoded;
      else x[i] = decoded;
    }
  }

  std::size_t block_;
  bool stochastic_;
  std::uint64_t seed_;
};

const Registered<CodecType> int8{"int8", {
    .summary = "a byte each and a scale per block: 0.254 of the bytes, within half of 1/127 of the block's largest",
    .make = [](Section& section) { return std::make_unique<Int8>(Int8Options(section)); },
}};

}  // namespace
}  // namespace cohort
