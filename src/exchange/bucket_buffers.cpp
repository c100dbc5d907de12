#include "exchange/bucket_buffers.hpp"

#include <algorithm>
#include <utility>

namespace cohort {
namespace {

constexpr auto kNone = static_cast<std::size_t>(-1);

}  // namespace

BucketBuffers::BucketBuffers(const Bucketizer& buckets) : buckets_(buckets) {
  for (const FlatRange& range : buckets.ranges()) longest_ = std::max(longest_, range.n);
}

std::size_t BucketBuffers::assign(std::span<const std::size_t> order) {
  std::vector<std::size_t> missing(buckets_.size());
  for (const std::size_t p : order) ++missing[buckets_.bucket_of(p)];
  ++missing.back();                                        // what ends a batch
  const auto complete = [&](std::size_t bucket) {
    return std::ranges::all_of(std::span(missing).first(bucket + 1), [](std::size_t n) { return n == 0; });
  };
  std::vector<std::size_t> holds;
  buffer_of_.assign(buckets_.size(), kNone);
  const auto choose = [&](std::size_t bucket) {
    std::size_t best = kNone;
    for (std::size_t i = 0; i < holds.size() && holds.size() > 1; ++i) {
      if (complete(holds[i]) && (best == kNone || holds[i] < holds[best])) best = i;
    }
    if (best == kNone) {
      best = holds.size();
      holds.push_back(bucket);
    }
    holds[best] = bucket;
    buffer_of_[bucket] = best;
  };
  for (const std::size_t p : order) {
    const std::size_t bucket = buckets_.bucket_of(p);
    if (buffer_of_[bucket] == kNone) choose(bucket);
    --missing[bucket];
  }
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    if (buffer_of_[b] == kNone) choose(b);                 // no gradient is in it
  }
  holds_.assign(holds.size(), std::nullopt);
  return holds.size();
}

void BucketBuffers::begin() { std::ranges::fill(holds_, std::nullopt); }

std::optional<std::size_t> BucketBuffers::take(std::size_t bucket) {
  std::optional<std::size_t>& holds = holds_[buffer_of_[bucket]];
  if (holds == bucket) return {};
  check(!holds || buckets_.complete_up_to(*holds), Code::internal, "gradients come in another order than that of the prepared step");
  return std::exchange(holds, bucket);
}

}  // namespace cohort
