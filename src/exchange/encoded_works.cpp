#include "exchange/encoded_works.hpp"

namespace cohort {

void EncodedWorks::select(Encoding encoding) {
  encoding_ = encoding;
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    Work*& work = buckets_[b].works[static_cast<std::size_t>(encoding)];
    if (work == nullptr) work = &collective_.prepare(operation_, compression_.described(b, buckets_[b].part, buckets_[b].data, encoding));
  }
}

void EncodedWorks::start(std::size_t bucket, std::int64_t step) {
  compression_.before_encoding(bucket, buckets_[bucket].part, buckets_[bucket].data);
  (*this)[bucket].start(step);
}

}  // namespace cohort
