#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "cohort/base/clock.hpp"
#include "cohort/base/log.hpp"
#include "cohort/base/profile.hpp"

namespace cohort {

/// What is per rank and wanted everywhere. It is passed, never global, because ranks can be threads of one process.
struct Context {
  int rank = 0;
  int ranks = 1;
  std::string host = "localhost";
  Log log{};
  Clock* clock = &Clock::steady();
  std::shared_ptr<Profile> profile = std::make_shared<Profile>();   ///< where this rank's time goes; copies share it
  std::string job{};                         ///< what the batch system calls this job, as "Slurm job 4711"; empty: nothing
  bool launches = false;                     ///< the launcher starts further processes for those at work (MPI_Comm_spawn)
  const std::atomic<bool>* stop = nullptr;   ///< set when the user asked for a clean end (signal); may be null

  [[nodiscard]] bool stop_requested() const noexcept { return stop != nullptr && stop->load(std::memory_order_relaxed); }
};

}  // namespace cohort
