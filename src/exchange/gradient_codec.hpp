#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cohort/comm/collective.hpp"
#include "cohort/exchange/options.hpp"

namespace cohort {

/// How the sums of a step travel: in float32, or through a codec that loses something.
enum class Encoding : std::uint8_t { exact, compressed };

/// Which codec gradients travel through, and from which step on: the first steps of a training go in float32. Small tensors, which
/// are few bytes and do not share scales well, have buckets of their own with a codec of their own.
class GradientCodec {
 public:
  /// `used`: the options of the collective that encodes, which may have put an exact codec in the place of the one asked for.
  GradientCodec(const ExchangeOptions& options, const CollectiveOptions& used)
      : name_(used.codec_name), small_name_(options.small_codec_name), dense_steps_(options.dense_steps), own_(used.codec),
        exact_(codec_named("fp32")), small_(codec_named(options.small_codec_name)) {}

  /// Does anything travel through a codec that is not exact, in some step?
  [[nodiscard]] bool lossy() const noexcept { return !own_->exact(); }
  /// The same on all ranks.
  [[nodiscard]] Encoding select_encoding(std::int64_t step) const noexcept {
    return lossy() && step >= dense_steps_ ? Encoding::compressed : Encoding::exact;
  }
  /// Of a bucket; `small`: that of small tensors.
  [[nodiscard]] const Codec& codec(Encoding encoding, bool small) const noexcept {
    if (encoding == Encoding::exact) return *exact_;
    return small ? *small_ : *own_;
  }
  /// For people. `small`: so many tensors are small.
  [[nodiscard]] std::string text(bool feeds_back, std::size_t small) const;

 private:
  std::string name_, small_name_;
  std::int64_t dense_steps_;
  std::shared_ptr<const Codec> own_, exact_, small_;
};

/// What keeps the gradients of these ranks from a codec beside the options of the exchange; empty: nothing. `lossy`: they do travel
/// through one that is not exact.
[[nodiscard]] std::string why_no_codec(bool lossy, const Communicator& ranks);

}  // namespace cohort
