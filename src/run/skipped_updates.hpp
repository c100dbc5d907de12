#pragma once

#include <cstdint>
#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {

/// What updates that are skipped, because a gradient is not finite, mean for the run: after too many in a row it is given up, and
/// while the last one was skipped its state is suspect. What a diverging run has must not push out good checkpoints, so a
/// checkpoint is put off until an update has been made again.
class SkippedUpdates {
 public:
  /// `most`: in a row (train.max_skipped).
  explicit SkippedUpdates(std::int64_t most) noexcept : most_(most) {}

  /// An update was made, and all ranks know it.
  void made() noexcept { in_a_row_ = 0, suspect_ = false; }
  /// One was not, or (`whole` false) a gradient came to none that others may still make an update of.
  void skipped(bool whole) noexcept { ++in_a_row_, suspect_ = suspect_ || whole; }
  /// Error out_of_range after too many in a row, up to this step.
  void check_in_a_row(std::int64_t step) const;

  [[nodiscard]] bool suspect() const noexcept { return suspect_; }
  /// A checkpoint that was put off can be made.
  [[nodiscard]] bool save_is_late() const noexcept { return put_off_ && !suspect_; }
  void saves() noexcept { put_off_ = false; }
  /// True for the first of those that are put off.
  [[nodiscard]] bool put_off() noexcept { return !std::exchange(put_off_, true); }

 private:
  std::int64_t most_, in_a_row_ = 0;
  bool suspect_ = false, put_off_ = false;
};

}  // namespace cohort
