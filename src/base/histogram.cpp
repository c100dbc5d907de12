#include "cohort/base/histogram.hpp"

#include <algorithm>
#include <cmath>

namespace cohort {
namespace {

constexpr double kLeast = 1e-7, kMost = 1e5, kGrowth = 0.00995033;   // ln 1.01
constexpr std::size_t kBuckets = 2780;                                // one for what is too short, then ln(kMost / kLeast) / kGrowth

}  // namespace

DurationHistogram::DurationHistogram() : buckets_(kBuckets) {}

void DurationHistogram::add(double seconds) noexcept {
  const double position = seconds > kLeast ? 1 + std::log(std::min(seconds, kMost) / kLeast) / kGrowth : 0;
  ++buckets_[std::min(static_cast<std::size_t>(position), kBuckets - 1)];
  ++count_;
}

double DurationHistogram::quantile(double q) const {
  if (count_ == 0) return 0;
  const auto rank = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(q * static_cast<double>(count_))));
  std::int64_t seen = 0;
  std::size_t bucket = 0;
  for (; bucket + 1 < kBuckets; ++bucket) {
    seen += buckets_[bucket];
    if (seen >= rank) break;
  }
  if (bucket == 0) return 0;
  return kLeast * std::exp((static_cast<double>(bucket) - 0.5) * kGrowth);   // the middle of the bucket
}

void DurationHistogram::clear() noexcept {
  std::fill(buckets_.begin(), buckets_.end(), 0u);
  count_ = 0;
}

}  // namespace cohort
