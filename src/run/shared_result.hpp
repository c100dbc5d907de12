#pragma once

#include <string>

#include "run/run.hpp"

namespace cohort {

/// What rank 0 knows at the end of a run, for ranks that do not; `all_there`: none was lost.
[[nodiscard]] std::string result_text(const Run& run, bool all_there);

/// The other side of it. Returns `all_there`.
bool take_result(Run& run, const std::string& text);

/// Collective where fewer than all ranks have been `active` at the end: the others learn the result.
void share_result(Run& run, int active);

}  // namespace cohort
