#pragma once

#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_snapshot.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/params/residual_keeper.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

/// What a phase leaves to the next: the state as in a checkpoint, held in the memory of the ranks that trained, whole on rank 0
/// or in each rank's pieces, and each rank's residuals of error feedback.
class Handover {
 public:
  explicit Handover(const Communicator& world) : state_(world.rank() == 0, true), residuals_(true, false) {}

  /// On the ranks that trained: copies the state, and the residuals if the exchange keeps some.
  void take(std::span<Stateful* const> parts, ResidualKeeper& exchange);

  /// Collective over all ranks of the job, of which the first `before` trained and the first `after` will. One tensor after the
  /// other travels from where it is held into `parts`, which are empty on the ranks that will not train. Error internal if the
  /// ranks' states are not the same tensors.
  void give(Communicator& world, std::span<Stateful* const> parts);
  /// Collective likewise, afterwards: residuals stay with their rank, those of ranks that train no more are added to others',
  /// and what changes hands is delivered by one step in float32. `exchange`: null on the ranks that will not train.
  void give_residuals(Communicator& world, int before, int after, ResidualKeeper* exchange);

 private:
  CheckpointSnapshot state_, residuals_;
  std::int64_t residual_layout_ = 0;
};

}  // namespace cohort
