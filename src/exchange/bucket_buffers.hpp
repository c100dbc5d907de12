#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "exchange/bucketizer.hpp"

namespace cohort {

/// A few buffers, each as long as the largest bucket, that buckets take turns in. Which bucket gets which follows from the order in
/// which a step's gradients become ready, which is the same on all ranks.
class BucketBuffers {
 public:
  explicit BucketBuffers(const Bucketizer& buckets);

  /// `order`: all parameters, as their gradients become ready. A bucket gets, of two buffers or more, the one that has waited
  /// longest for nothing but a sum; where there is none, a new one. Returns how many buffers that takes.
  std::size_t assign(std::span<const std::size_t> order);
  [[nodiscard]] bool assigned() const noexcept { return !buffer_of_.empty(); }
  /// So many have been assigned; each gets its memory.
  void place(std::vector<Buffer> memory) { memory_ = std::move(memory); }
  [[nodiscard]] float* data(std::size_t bucket) const { return static_cast<float*>(memory_[buffer_of_[bucket]].memory.get()); }
  [[nodiscard]] std::size_t buffer_of(std::size_t bucket) const { return buffer_of_[bucket]; }

  /// A batch begins: no bucket is in its buffer.
  void begin();
  /// A gradient of the bucket is about to be copied. The bucket whose sum must have left its buffer before, if there is one. Error
  /// internal if gradients of that one are missing.
  [[nodiscard]] std::optional<std::size_t> take(std::size_t bucket);

  [[nodiscard]] std::int64_t longest() const noexcept { return longest_; }              ///< elements of each
  [[nodiscard]] std::size_t count() const noexcept { return holds_.size(); }

 private:
  const Bucketizer& buckets_;
  std::int64_t longest_ = 0;
  std::vector<std::size_t> buffer_of_;                      // by bucket
  std::vector<std::optional<std::size_t>> holds_;           // by buffer: the last bucket that lay in it in this batch
  std::vector<Buffer> memory_;                              // by buffer
};

}  // namespace cohort
