#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "cohort/base/thread_pool.hpp"
#include "cohort/tensor/shape.hpp"

namespace cohort {

/// Copies a box of `size` elements that begins at `from_begin` in a dense array of shape `from` to `to_begin` in one of
/// shape `to`: in the longest runs that lie together in both.
class BoxCopy {
 public:
  using Position = std::span<const std::int64_t>;   // one per dimension; empty: the origin

  BoxCopy(std::size_t element_bytes, const Shape& size, const Shape& from, Position from_begin, const Shape& to,
          Position to_begin) {
    std::int64_t from_step = static_cast<std::int64_t>(element_bytes), to_step = from_step;
    run_ = from_step;
    bool together = true;
    for (std::size_t d = size.rank(); d-- > 0;) {
      const auto at = static_cast<std::int64_t>(d);
      if (!from_begin.empty()) from_offset_ += from_begin[d] * from_step;
      if (!to_begin.empty()) to_offset_ += to_begin[d] * to_step;
      if (together) run_ *= size[at];
      else dims_[rank_++] = {size[at], from_step, to_step};
      together = together && size[at] == from[at] && size[at] == to[at];
      from_step *= from[at];
      to_step *= to[at];
    }
    for (std::size_t d = 0; d < rank_; ++d) rows_ *= dims_[d].size;
  }

  void run(ThreadPool& pool, const void* from, void* to) const {
    if (run_ == 0) return;
    const auto* source = static_cast<const std::byte*>(from) + from_offset_;
    auto* target = static_cast<std::byte*>(to) + to_offset_;
    if (rows_ == 1) {
      pool.parallel_for(run_, kGrainBytes, [&](std::int64_t begin, std::int64_t end) {
        std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin));
      });
      return;
    }
    pool.parallel_for(rows_, std::max<std::int64_t>(1, kGrainBytes / run_), [&](std::int64_t begin, std::int64_t end) {
      rows(begin, end, source, target);
    });
  }

 private:
  static constexpr std::int64_t kGrainBytes = 65536;
  struct Dimension {
    std::int64_t size = 1, from_step = 0, to_step = 0;
  };

  void rows(std::int64_t begin, std::int64_t end, const std::byte* from, std::byte* to) const {
    std::array<std::int64_t, Shape::kMaxRank> index{};
    std::int64_t rest = begin;
    for (std::size_t d = 0; d < rank_; ++d) {
      index[d] = rest % dims_[d].size;
      rest /= dims_[d].size;
      from += index[d] * dims_[d].from_step;
      to += index[d] * dims_[d].to_step;
    }
    for (std::int64_t row = begin; row < end; ++row) {
      std::memcpy(to, from, static_cast<std::size_t>(run_));
      for (std::size_t d = 0; d < rank_; ++d) {
        from += dims_[d].from_step;
        to += dims_[d].to_step;
        if (++index[d] < dims_[d].size) break;
        from -= index[d] * dims_[d].from_step;
        to -= index[d] * dims_[d].to_step;
        index[d] = 0;
      }
    }
  }

  std::array<Dimension, Shape::kMaxRank> dims_{};   // innermost first, without those inside a run
  std::size_t rank_ = 0;
  std::int64_t run_ = 0, rows_ = 1;                 // bytes; number of runs
  std::int64_t from_offset_ = 0, to_offset_ = 0;
};

}  // namespace cohort
