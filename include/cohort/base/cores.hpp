#pragma once

namespace cohort {

/// The cores that the launcher (or taskset, or a batch system) lets this process use.
[[nodiscard]] int available_cores();

}  // namespace cohort
