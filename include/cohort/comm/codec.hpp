#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cohort/base/options.hpp"
#include "cohort/base/registry.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {

/// What a codec may want to know about the run of floats it is given.
struct ExchangeContext {
  std::int64_t step = 0;
  int bucket = 0;
  int rank = 0;  ///< among those that train, of who encodes: a stream of its own for stochastic rounding
  std::size_t offset = 0;                 ///< index in the bucket of the run's first element

  [[nodiscard]] ExchangeContext at(std::size_t new_offset) const {
    ExchangeContext result = *this;
    result.offset = new_offset;
    return result;
  }
};

enum class Accumulate : std::uint8_t { assign, add };

/// The wire format of a run of floats. Stateless and thread-safe. The size depends on the number of floats alone, so no
/// length travels. Where a wire begins is aligned to 4 bytes, x and residual to 4, better to 64; they do not overlap. Runs begin
/// at multiples of 256 elements of a bucket (kBlockUnit), and all but its last end there.
class Codec {
 public:
  virtual ~Codec() = default;
  [[nodiscard]] virtual std::size_t wire_bytes(std::size_t n) const = 0;

  /// Writes `wire_bytes(n)` bytes that stand for `x`, or with a residual (n floats, error feedback as in Karimireddy et al.,
  /// ICML 2019) for x + residual, of which it then keeps what the wire does not say: residual := x + residual - decoded. Where
  /// the decoded value is not finite the residual stays as it was, since such a step is skipped.
  virtual void encode(const float* x, std::size_t n, std::byte* wire, float* residual,
                      const ExchangeContext& context) const = 0;
  /// x := decoded, or x := x + decoded, in float32.
  virtual void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how,
                      const ExchangeContext& context) const = 0;

  /// True if decode(encode(x)) is x, bit by bit.
  [[nodiscard]] virtual bool exact() const noexcept = 0;
  /// The largest size of a number that is sure to arrive as one.
  [[nodiscard]] virtual float largest() const noexcept { return std::numeric_limits<float>::max(); }
  /// True if errors are so large that they should be fed back, unless somebody decides otherwise.
  [[nodiscard]] virtual bool wants_feedback() const noexcept { return false; }
  /// True if the wire format is the floats as they lie in memory: a collective may then send them without encoding.
  [[nodiscard]] virtual bool plain() const noexcept { return false; }
};

/// How a codec enters: name → a function that reads its own options and makes it.
struct CodecType {
  std::string summary;
  std::function<std::unique_ptr<Codec>(Section& options)> make;
};
template <>
inline constexpr std::string_view kKindOf<CodecType> = "codec";

/// The codec of that name with its default options; an unknown one is an Error that names those there are.
[[nodiscard]] inline std::shared_ptr<const Codec> codec_named(const std::string& name) {
  Section defaults;
  return Registry<CodecType>::instance().get(name).make(defaults);
}

}  // namespace cohort
