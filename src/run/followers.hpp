#pragma once

#include <cstdint>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "cohort/data/pipeline.hpp"

namespace cohort {

/// Where a run is, as rank 0 tells the ranks that do not train in a phase.
struct Beat {
  std::int64_t step = 0, applied = 0, skipped = 0;
  Position position;
  std::int64_t ended = 0;             ///< 1: the phase is over
  std::int64_t stopped = 0;           ///< 1: so is the run, since somebody asked for it
  double loss = 0;
};

/// Rank 0's side of a phase in which the ranks from `first` on only follow. It sends them a sign of life about once a second
/// while steps are made, so that their waits stay short however long the phase lasts, and hears their wishes to stop. Messages
/// travel between other traffic of the communicator with tags of their own.
class Followers {
 public:
  Followers(Communicator& world, int first);
  Followers(const Followers&) = delete;
  Followers& operator=(const Followers&) = delete;

  /// Cheap when nothing is due; never blocks, allocates nothing.
  void beat(const Beat& now);
  /// Has one of them been asked to stop (a signal)?
  [[nodiscard]] bool want_to_stop() const noexcept { return wish_; }
  /// Sends the last one, and returns when all have got it.
  void end(Beat last);

 private:
  void hear();
  void wait(std::vector<Transfer>& transfers, const char* what);

  Communicator& world_;
  double period_, last_ = 0;
  Beat message_;
  std::vector<Transfer> out_, in_;    // by follower
  std::vector<std::int64_t> wishes_;
  bool wish_ = false;
};

/// A follower's side: returns the last beat. Error deadline_exceeded if rank 0 is silent for longer than the communicator's
/// timeout, cancelled as always.
[[nodiscard]] Beat follow(Communicator& world);

}  // namespace cohort
