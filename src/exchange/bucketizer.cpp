#include "exchange/bucketizer.hpp"

#include <algorithm>

namespace cohort {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

/// The first parameter of each bucket, and one behind the last; one bucket at least.
std::vector<std::size_t> cut(const ParameterLayout& layout, const ExchangeOptions& options) {
  std::vector<std::size_t> first{0};
  const std::size_t all = layout.trained().size();
  for (std::size_t p = 0; p < all; ++p) {
    const double mib = first.size() == 1 ? options.first_bucket_mib : options.bucket_mib;
    const auto limit = static_cast<std::int64_t>(mib * kMiB / sizeof(float));
    const bool full = layout.range(first.back(), p + 1).n > limit;
    if (first.back() < p && (full || p == layout.first_small())) first.push_back(p);
  }
  first.push_back(all);
  return first;
}

}  // namespace

std::vector<FlatRange> bucket_ranges(const ParameterLayout& layout, const ExchangeOptions& options) {
  const std::vector<std::size_t> first = cut(layout, options);
  std::vector<FlatRange> ranges;
  for (std::size_t b = 0; b + 1 < first.size(); ++b) ranges.push_back(layout.range(first[b], first[b + 1]));
  return ranges;
}

Bucketizer::Bucketizer(const ParameterLayout& layout, const ExchangeOptions& options)
    : layout_(layout), ranges_(bucket_ranges(layout, options)), first_(cut(layout, options)), pending_(ranges_.size()) {
  for (std::size_t b = 0; b < size(); ++b) bucket_of_.insert(bucket_of_.end(), first_[b + 1] - first_[b], b);
}

void Bucketizer::begin() {
  launched_ = 0;
  for (std::size_t b = 0; b < size(); ++b) pending_[b].store(first_[b + 1] - first_[b], std::memory_order_relaxed);
  pending_.back().fetch_add(1, std::memory_order_relaxed);      // waits for the end of the batch
}

void Bucketizer::check_missing(std::size_t parameter) const {
  const std::size_t b = bucket_of_[parameter], least = b + 1 == size() ? 2 : 1;
  if (pending_[b].load(std::memory_order_relaxed) < least) {
    fail(Code::internal, "the gradient of '" + layout_.trained()[parameter].name + "' is ready twice in one step");
  }
}

bool Bucketizer::arrive(std::size_t parameter) { return pending_[bucket_of_[parameter]].fetch_sub(1, std::memory_order_acq_rel) == 1; }

void Bucketizer::end() {
  check(pending_.back().fetch_sub(1, std::memory_order_acq_rel) == 1, Code::internal, "a batch ends before all gradients are there");
}

bool Bucketizer::complete_up_to(std::size_t bucket) const {
  return std::all_of(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(bucket) + 1,
                     [](const auto& left) { return left.load(std::memory_order_relaxed) == 0; });
}

bool Bucketizer::take_next(std::size_t& bucket) {
  if (all_launched() || pending_[launched_].load(std::memory_order_acquire) > 0) return false;
  bucket = launched_++;
  return true;
}

}  // namespace cohort
