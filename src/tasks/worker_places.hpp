#pragma once

#include <vector>

#include "tasks/async_progress.hpp"
#include "tasks/token_work.hpp"

namespace cohort {

/// Which worker has which place in the rules by which gradients count, and what has become of each worker's gradients over all the
/// places that it has had.
class WorkerPlaces {
 public:
  WorkerPlaces(AsyncProgress& progress, TokenWork& work);

  /// A phase begins: those that work take its places, in order, and what is left over stays empty.
  void begin_phase();
  /// The phase at hand is over for all.
  void end_phase();
  /// To a worker that is new: a place that somebody has left, if there is one.
  void give(int worker);
  /// A worker is lost: somebody who only followed takes its place.
  void leave(int worker);
  /// A gradient of a phase that is over.
  void drop(int worker) { ++history(worker).before.dropped; }
  [[nodiscard]] WorkerCounts counts(int worker) const;

 private:
  struct History {
    WorkerCounts before;                     // of earlier places
    WorkerCounts others;                     // of those who had its place before it
  };
  [[nodiscard]] History& history(int worker) { return histories_[static_cast<std::size_t>(worker)]; }
  void take(int worker, int index);
  void count_earlier(int worker);

  AsyncProgress& progress_;
  TokenWork& work_;
  std::vector<History> histories_;           // by worker
};

}  // namespace cohort
