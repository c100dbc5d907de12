#pragma once

#include <functional>
#include <vector>

#include "cohort/comm/communicator.hpp"

namespace cohort {

struct ThreadRanksOptions {
  std::vector<int> nodes{};                ///< a label per rank; empty: all on one node
  double timeout = 60;                     ///< seconds that any wait may last
  LogLevel log = LogLevel::warning;
  Clock* clock = &Clock::steady();
};

/// Runs `body` once per rank, each rank a thread of this process with a communicator of its own, and returns when all have
/// ended. If a rank throws, the waits of all others end with Error cancelled, and the first exception is rethrown here;
/// but if it is one that may be lost, the others go on and see the loss in their Membership.
void run_as_threads(int ranks, const std::function<void(Communicator&)>& body, const ThreadRanksOptions& options = {});

}  // namespace cohort
