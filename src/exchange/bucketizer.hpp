#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cohort/exchange/options.hpp"
#include "cohort/params/parameter_layout.hpp"

namespace cohort {

/// Cuts the flat index space into buckets, between parameters and before the small ones, and counts in each batch which of their
/// gradients are still missing. Buckets are launched in their order, each when it is complete. One thread says what has arrived,
/// and one, maybe another, takes what is to be launched.
class Bucketizer {
 public:
  Bucketizer(const ParameterLayout& layout, const ExchangeOptions& options);

  [[nodiscard]] std::size_t size() const noexcept { return ranges_.size(); }
  [[nodiscard]] std::span<const FlatRange> ranges() const noexcept { return ranges_; }
  [[nodiscard]] std::size_t bucket_of(std::size_t parameter) const { return bucket_of_[parameter]; }
  /// Does the bucket hold the tensors that are told apart as small?
  [[nodiscard]] bool is_small(std::size_t bucket) const { return first_[bucket] >= layout_.first_small() && first_[bucket] < first_[bucket + 1]; }

  /// A batch begins: no gradient is there.
  void begin();
  /// Error internal if the gradient has arrived before in this batch.
  void check_missing(std::size_t parameter) const;
  /// The gradient is there. True if its bucket is complete by that.
  bool arrive(std::size_t parameter);
  /// The batch ends: what travels behind the gradients of the last bucket is there. Error internal if a gradient of it is not.
  void end();

  /// Are this bucket and all before it complete?
  [[nodiscard]] bool complete_up_to(std::size_t bucket) const;
  /// The next bucket to be launched, if it is complete.
  [[nodiscard]] bool take_next(std::size_t& bucket);
  [[nodiscard]] std::size_t launched() const noexcept { return launched_; }
  /// Has nothing been launched, and is nothing to be?
  [[nodiscard]] bool idle() const noexcept { return launched_ == 0 && pending_[0].load(std::memory_order_relaxed) > 0; }
  [[nodiscard]] bool all_launched() const noexcept { return launched_ == size(); }

 private:
  const ParameterLayout& layout_;
  std::vector<FlatRange> ranges_;
  std::vector<std::size_t> first_;                  // by bucket: its first parameter; one behind the last
  std::vector<std::size_t> bucket_of_;              // by parameter
  std::vector<std::atomic<std::size_t>> pending_;   // by bucket: what must be there before it starts
  std::size_t launched_ = 0;
};

}  // namespace cohort
