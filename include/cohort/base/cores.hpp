#pragma once

#include <vector>

namespace cohort {

/// The numbers of the cores that the launcher (or taskset, or a batch system) lets this process use, ascending.
[[nodiscard]] std::vector<int> available_cores();

/// Threads for one of several processes on a machine, each with its set of available cores: the cores of `mine`, divided by
/// the processes that may use any of them as well (itself included); at least 1.
[[nodiscard]] int fair_share(const std::vector<int>& mine, const std::vector<std::vector<int>>& all);

}  // namespace cohort
