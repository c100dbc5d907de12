#pragma once

#include <cstdint>

#include "cohort/data/pipeline.hpp"
#include "cohort/run/options.hpp"

namespace cohort {

/// Where a run is between two updates: all that a BoundaryPolicy asks about.
struct RunPoint {
  std::int64_t step = 0;             ///< updates that were applied or skipped
  Position position{};               ///< of the next sample
  bool stopped = false;              ///< somebody has asked the run to end
  bool save_was_put_off = false;     ///< a checkpoint is missing that could be made now
  std::int64_t saved_step = -1;      ///< the step for which a checkpoint was asked last; -1: none was
};

/// What is to be done between two updates, before training goes on.
struct Boundary {
  bool evaluation = false;           ///< the state at hand is validated here
  bool save_of_epoch = false;        ///< a checkpoint, since an epoch has ended or the run does
  bool save_of_step = false;         ///< a checkpoint, since so many updates have been made
  bool end = false;                  ///< the run is over
  bool phase = false;                ///< another phase begins, or the run is over

  [[nodiscard]] bool save() const noexcept { return save_of_epoch || save_of_step; }
  [[nodiscard]] bool any() const noexcept { return evaluation || save() || end || phase; }
  void operator|=(const Boundary& more) noexcept {
    evaluation |= more.evaluation, end |= more.end, phase |= more.phase;
    save_of_epoch |= more.save_of_epoch, save_of_step |= more.save_of_step;
  }
};

/// When a run validates, saves and ends: a pure function of where it is, and the same for replicas, workers and replays.
class BoundaryPolicy {
 public:
  /// `has_validation_data`: without, nothing is ever validated.
  BoundaryPolicy(const TrainOptions& train, const CheckpointOptions& checkpoint, bool has_validation_data) noexcept;

  /// By the position in the data, whatever batches it was reached with, or by the number of updates.
  [[nodiscard]] bool over(const RunPoint& at) const noexcept;
  /// Does the state at hand get a validation? Where somebody has asked the run to stop, whoever goes on from here makes it.
  [[nodiscard]] bool validates(const RunPoint& at) const noexcept;
  /// What is due. `phase_end`: the epoch in which the phase at hand is over.
  [[nodiscard]] Boundary due(const RunPoint& at, std::int64_t phase_end) const noexcept;

 private:
  std::int64_t epochs_, max_steps_, validate_every_, save_every_epochs_, save_every_steps_;
  bool has_validation_data_;
};

}  // namespace cohort
