#pragma once

#include <cstdint>
#include <vector>

namespace cohort {

/// How durations are spread, in buckets that grow by 1 %: any number of them in 11 KiB, and adding one allocates nothing.
class DurationHistogram {
 public:
  DurationHistogram();
  /// Below 0.1 µs counts as 0, above 10^5 s as that.
  void add(double seconds) noexcept;
  /// The duration that a share `q` (0 to 1) of all does not exceed, within 1 %; 0 if there is none.
  [[nodiscard]] double quantile(double q) const;
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  void clear() noexcept;

 private:
  std::vector<std::uint32_t> buckets_;
  std::int64_t count_ = 0;
};

}  // namespace cohort
