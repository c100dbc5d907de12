#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cohort/run/aggregation.hpp"
#include "cohort/watch/membership.hpp"

namespace cohort {

/// Means over a data set, the same on all ranks.
struct Evaluation {
  double loss = 0;
  std::vector<std::pair<std::string, double>> metrics;
  std::int64_t samples = 0;
};

struct TrainResult {
  std::int64_t steps = 0, skipped = 0;
  double loss = 0;                                  ///< of the last logged step
  std::optional<Evaluation> validation;             ///< the last one
  bool stopped = false;                             ///< ended early because somebody asked (a signal)
  double seconds = 0;
  std::filesystem::path directory, checkpoint;      ///< checkpoint: empty if none was written
  std::vector<Membership::Loss> lost;               ///< workers of parameter tasks, on rank 0
  std::int64_t replaced = 0;                        ///< so many of them, by new processes
  std::vector<WorkerCounts> workers;                ///< what has become of their gradients, on rank 0
};

}  // namespace cohort
