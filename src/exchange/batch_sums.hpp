#pragma once

#include <algorithm>
#include <vector>

#include "exchange/reduction.hpp"

namespace cohort {

/// Where every batch of an update is summed over the ranks by itself: adds up the sums of its batches in their order, the same
/// whoever keeps which of them.
class BatchSums {
 public:
  explicit BatchSums(const Reduction& reduction) : reduction_(reduction) {
    std::int64_t n = 0;
    for (const GradientRange& mine : reduction_.owned()) n += mine.n;
    kept_.resize(static_cast<std::size_t>(n));
  }

  /// Does this rank get no sums?
  [[nodiscard]] bool empty() const noexcept { return kept_.empty(); }
  /// The reduction has the sums of a batch that is not the update's last; `first`: it is the first.
  void keep(bool first) {
    float* kept = kept_.data();
    for (std::size_t b = 0; b < reduction_.owned().size(); kept += reduction_.owned()[b++].n) {
      const float* const sums = reduction_.host_sums(b);
      const std::int64_t n = reduction_.owned()[b].n;
      if (first) std::copy_n(sums, n, kept);
      else for (std::int64_t i = 0; i < n; ++i) kept[i] += sums[i];
    }
  }
  /// Adds what was kept to the sums of the last batch.
  void add_kept() const {
    const float* kept = kept_.data();
    for (std::size_t b = 0; b < reduction_.owned().size(); kept += reduction_.owned()[b++].n) {
      float* const sums = reduction_.host_sums(b);
      for (std::int64_t i = 0; i < reduction_.owned()[b].n; ++i) sums[i] += kept[i];
    }
  }

 private:
  const Reduction& reduction_;
  std::vector<float> kept_;                 // one owned range behind the other
};

}  // namespace cohort
