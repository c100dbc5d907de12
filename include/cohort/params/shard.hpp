#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

namespace cohort {

/// A part of the flat index space of all trained parameters.
struct FlatRange {
  std::int64_t begin = 0, n = 0;
  [[nodiscard]] std::int64_t end() const noexcept { return begin + n; }
};

/// The parts of the flat index space that one rank keeps, laid out one behind the other.
class Shard {
 public:
  /// `owned`: ascending, without overlap; empty ones are dropped. `keepers`: so many ranks have all of it between them, and
  /// know so even where one of them happens to have everything.
  Shard(std::span<const FlatRange> owned, int keepers) : keepers_(keepers) {
    for (const FlatRange& range : owned) {
      if (range.n == 0) continue;
      owned_.push_back(range);
      positions_.push_back(size_);
      size_ += range.n;
    }
  }

  [[nodiscard]] std::span<const FlatRange> owned() const noexcept { return owned_; }
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  [[nodiscard]] bool alone() const noexcept { return keepers_ == 1; }
  /// Where an element lies. Precondition: the shard has it.
  [[nodiscard]] std::int64_t position(std::int64_t flat) const {
    const auto after = std::ranges::upper_bound(owned_, flat, {}, &FlatRange::begin);
    const auto i = static_cast<std::size_t>(std::distance(owned_.begin(), after)) - 1;
    return positions_[i] + (flat - owned_[i].begin);
  }
  /// What it has of a range that no two of its own share.
  [[nodiscard]] FlatRange part_of(FlatRange range) const {
    for (const FlatRange& mine : owned_) {
      const std::int64_t begin = std::max(mine.begin, range.begin), end = std::min(mine.end(), range.end());
      if (begin < end) return {begin, end - begin};
    }
    return {range.begin, 0};
  }

 private:
  std::vector<FlatRange> owned_;
  std::vector<std::int64_t> positions_;
  std::int64_t size_ = 0;
  int keepers_;
};

}  // namespace cohort
