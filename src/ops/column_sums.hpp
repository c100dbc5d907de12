#pragma once

#include <algorithm>
#include <cstdint>

#include "cohort/exec/kernel.hpp"

namespace cohort {

/// Sums over the rows of a matrix, one result per column. The rows are cut into chunks that depend on their number only, so
/// the results have the same bits with any number of threads; short chunks keep the rounding error of float sums low.
class ColumnSums {
 public:
  ColumnSums(const NodeInfo& info, std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), chunk_(std::max<std::int64_t>(kRows, (rows + kMostChunks - 1) / kMostChunks)),
        partial_(info, (rows + chunk_ - 1) / chunk_ * columns) {}

  /// `add(begin, end, sums)` adds the rows [begin, end) to sums[columns]; calls run on several threads.
  template <class Add>
  void run(ThreadPool& pool, Add add, float* out) {
    const std::int64_t chunks = (rows_ + chunk_ - 1) / chunk_;
    std::fill(partial_.begin(), partial_.end(), 0.f);
    pool.parallel_for(chunks, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        add(i * chunk_, std::min(rows_, (i + 1) * chunk_), partial_.data() + i * columns_);
      }
    });
    for (std::int64_t j = 0; j < columns_; ++j) {
      double sum = 0;
      const float* partial = partial_.data() + j;
      for (std::int64_t i = 0; i < chunks; ++i) sum += static_cast<double>(partial[i * columns_]);
      out[j] = static_cast<float>(sum);
    }
  }

 private:
  static constexpr std::int64_t kRows = 64, kMostChunks = 64;

  std::int64_t rows_, columns_, chunk_;
  ScratchFloats partial_;
};

}  // namespace cohort
