#pragma once

#include <string>
#include <vector>

#include "run/run.hpp"

namespace cohort {

/// What people would not expect of the learning rate of the run that begins now, a line for each: that the run ends before its
/// schedule does (train.max_steps, or a warm-up that is too long), and that a resumed run goes on with another rate than it had,
/// since its schedule has changed. Empty if there is nothing, or the run is over. Run::total_steps must be set.
[[nodiscard]] std::vector<std::string> schedule_notes(const Run& run);

}  // namespace cohort
