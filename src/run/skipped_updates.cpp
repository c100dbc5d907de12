#include "run/skipped_updates.hpp"

#include <fmt/core.h>

namespace cohort {

void SkippedUpdates::check_in_a_row(std::int64_t step) const {
  if (in_a_row_ < most_) return;
  fail(Code::out_of_range, fmt::format("gradients were not finite in {} steps in a row, up to step {}: the run has diverged; try a smaller "
                                       "learning rate or train.clip_norm", in_a_row_, step));
}

}  // namespace cohort
