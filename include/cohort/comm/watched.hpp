#pragma once

#include "cohort/comm/communicator.hpp"
#include "cohort/watch/watched_rank.hpp"

namespace cohort {

/// This rank of the whole job `world`, for a Detector. `world` must live until the detector has been made, which duplicates it
/// where there is a watchdog; it may go afterwards.
[[nodiscard]] WatchedRank watched(Communicator& world);
/// The same of a process that takes a lost rank's place: `parents` is the group of those who started it
/// (`Environment::parents`), which take no part in this.
[[nodiscard]] WatchedRank watched_replacement(Communicator& parents);

}  // namespace cohort
