#include "exchange/compression.hpp"

namespace cohort {

Compression::Compression(const ParameterLayout& layout, const Bucketizer& buckets, const ExchangeOptions& options, const CollectiveOptions& used)
    : layout_(layout), buckets_(buckets), codec_(options, used), feedback_(layout, buckets.ranges()), report_(buckets.size()) {
  for (std::size_t b = 0; codec_.lossy() && b < buckets.size(); ++b) {
    const Codec& codec = codec_.codec(Encoding::compressed, buckets.is_small(b));
    const bool feeds = options.error_feedback == "auto" ? codec.wants_feedback() : options.error_feedback == "on";
    if (feeds && !codec.exact()) feedback_.add_residual(b);
  }
}

Encoding Compression::select_encoding(std::int64_t step) {
  encoding_ = feedback_.flushes() ? Encoding::exact : codec_.select_encoding(step);
  feedback_.begin(encoding_ == Encoding::compressed);
  report_.begin(step, encoding_ == Encoding::compressed);
  return encoding_;
}

Bucket Compression::described(std::size_t bucket, Block part, float* data, Encoding encoding) {
  Bucket what{.id = static_cast<int>(bucket), .data = data + part.begin, .n = part.size, .codec = &codec_.codec(encoding, buckets_.is_small(bucket))};
  float* const residual = feedback_.residual(bucket);
  if (encoding == Encoding::compressed && residual != nullptr) what.residual = residual + part.begin;
  return what;
}

void Compression::before_encoding(std::size_t bucket, Block part, const float* data) {
  report_.before_encoding(static_cast<int>(bucket), codec_.codec(Encoding::compressed, buckets_.is_small(bucket)), part, data,
                          feedback_.residual(bucket));
}

void Compression::end(Communicator& all, const std::function<Traffic(std::size_t bucket)>& sent) {
  feedback_.end();
  report_.end(all, sent);
}

std::string Compression::text() const {
  return codec_.text(feedback_.keeps_residuals(), layout_.trained().size() - layout_.first_small());
}

}  // namespace cohort
