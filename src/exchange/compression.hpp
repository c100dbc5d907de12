#pragma once

#include <cstdint>
#include <functional>

#include "exchange/bucketizer.hpp"
#include "exchange/codec_report.hpp"
#include "exchange/error_feedback.hpp"
#include "exchange/gradient_codec.hpp"

namespace cohort {

/// The encoding of a step's gradients, with its decorators: error feedback and the report of what is lost.
class Compression {
 public:
  /// `used`: the options of the collective that encodes.
  Compression(const ParameterLayout& layout, const Bucketizer& buckets, const ExchangeOptions& options, const CollectiveOptions& used);

  /// A step begins. The same on all ranks.
  [[nodiscard]] Encoding select_encoding(std::int64_t step);
  [[nodiscard]] Encoding encoding() const noexcept { return encoding_; }
  [[nodiscard]] bool lossy() const noexcept { return codec_.lossy(); }

  /// A part of a bucket as a work is to exchange it. `data`: the bucket's floats.
  [[nodiscard]] Bucket described(std::size_t bucket, Block part, float* data, Encoding encoding);
  /// A bucket's gradients are about to be exchanged.
  void before_launch(std::size_t bucket, float* data) { feedback_.before_launch(bucket, data); }
  /// A part of them is about to be encoded.
  void before_encoding(std::size_t bucket, Block part, const float* data);
  /// Collective. The step's sums are there. `sent`: by this rank, of a bucket.
  void end(Communicator& all, const std::function<Traffic(std::size_t bucket)>& sent);

  [[nodiscard]] ErrorFeedback& feedback() noexcept { return feedback_; }
  [[nodiscard]] CodecReport& report() noexcept { return report_; }
  [[nodiscard]] std::string text() const;

 private:
  const ParameterLayout& layout_;
  const Bucketizer& buckets_;
  GradientCodec codec_;
  ErrorFeedback feedback_;
  CodecReport report_;
  Encoding encoding_ = Encoding::exact;     // this step's
};

}  // namespace cohort
