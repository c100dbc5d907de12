#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cohort/watch/detector.hpp"
#include "cohort/watch/watched_rank.hpp"
#include "watch/coordinator.hpp"
#include "watch/socket.hpp"

namespace cohort {

inline constexpr std::size_t kCoordinators = 2;   ///< on ranks 0 and 1
using CoordinatorLinks = std::array<Link, kCoordinators>;

/// How a rank is connected to those who watch over it.
struct Meeting {
  std::vector<std::string> hosts;                 ///< of all ranks; a replacement knows rank 0's alone
  std::unique_ptr<Coordinator> coordinator;       ///< of ranks 0 and 1 only: the one that runs here
  CoordinatorLinks links;                         ///< a replacement has one to rank 0 alone
  double period = 1;                              ///< seconds between two heartbeats
};

/// Collective. Starts the coordinators and connects every rank to them. Nothing, and a warning of rank 0, if one of the ranks
/// cannot connect. From here on rank 0's membership knows where a replacement finds its coordinator.
[[nodiscard]] std::optional<Meeting> meet_coordinators(const WatchedRank& rank, WatchChannel& channel, const DetectorOptions& options);

/// Connects a process that takes a lost rank's place to rank 0's coordinator, at the address that the membership has. Error
/// unavailable if that fails.
[[nodiscard]] Meeting meet_at_door(const WatchedRank& rank, const DetectorOptions& options);

}  // namespace cohort
