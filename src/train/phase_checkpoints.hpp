#pragma once

#include <memory>
#include <span>

#include "checkpoint/residual_files.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "run/run.hpp"

namespace cohort {

/// The checkpoints of a phase on the ranks that train in it: the state, which rank 0 writes or, where the parameters are in parts, all
/// of them, and each rank's residuals of error feedback beside it.
class PhaseCheckpoints {
 public:
  /// Collective. `parts`: what a checkpoint holds.
  PhaseCheckpoints(Run& run, Communicator& communicator, const Setup& setup, ResidualKeeper& kept, std::span<Stateful* const> parts);

  /// Those that are there stay, however many: the next one is of a state that may be worthless.
  void keep_all();
  /// The state is the same on all ranks. `best`: of all so far.
  void save(bool best);
  /// The state that was saved last is the best.
  void mark_best();
  /// What is written goes on; never blocks.
  void poll();
  /// Waits until all is written.
  void close();
  [[nodiscard]] bool in_parts() const noexcept { return in_parts_; }

 private:
  Run& run_;
  std::span<Stateful* const> parts_;
  bool in_parts_;
  std::unique_ptr<ResidualFiles> residuals_;       // if the exchange keeps some
  std::unique_ptr<CheckpointWriter> writer_;       // rank 0 only, unless the parameters are in parts
};

}  // namespace cohort
