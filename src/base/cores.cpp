#include "cohort/base/cores.hpp"

#include <sched.h>

#include <algorithm>

namespace cohort {

std::vector<int> available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

int fair_share(const std::vector<int>& mine, const std::vector<std::vector<int>>& all) {
  const auto overlaps = [&](const std::vector<int>& other) {
    return std::any_of(other.begin(), other.end(), [&](int core) { return std::binary_search(mine.begin(), mine.end(), core); });
  };
  const auto sharing = static_cast<int>(std::count_if(all.begin(), all.end(), overlaps));
  return std::max(1, static_cast<int>(mine.size()) / std::max(1, sharing));
}

}  // namespace cohort
