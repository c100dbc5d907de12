#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "params/kept_statistics.hpp"
#include "run/gradient_source.hpp"
#include "run/run.hpp"
#include "train/phase_checkpoints.hpp"
#include "train/phase_replica.hpp"

namespace cohort {

/// One phase of a run on the ranks that train in it: the loop over the updates, and what comes between them.
class PhaseTrainer {
 public:
  /// Collective over the ranks that train. `followers`: on rank 0, where some ranks do not; else null. Both outlive this object.
  PhaseTrainer(Run& run, Communicator& active, const TrainingPhase& phase, Followers* followers);

  [[nodiscard]] PhaseReplica& replica() noexcept { return replica_; }
  /// Collective, once the replica has been started. To the end of the phase or of the run.
  void train();

 private:
  [[nodiscard]] bool over() const { return run_.over() || state_.position.epoch >= phase_.end; }

  void update();
  void add_to_scalars(const BatchResult& result, double weight);
  void after_update(const StepOutcome& outcome, double rate, std::int64_t samples);
  void log_step(const StepOutcome& outcome, double rate);
  void beat();

  void end_of_epoch(const Boundary& due);
  [[nodiscard]] bool validate();
  void finish_validation();
  bool save(bool best);

  Run& run_;
  TrainerState& state_;
  TrainingPhase phase_;
  Followers* followers_;
  PhaseReplica replica_;
  KeptStatistics before_update_;             // what a skipped update must not change
  GradientSource gradients_;
  std::optional<PhaseCheckpoints> checkpoints_;
  StepScalars scalars_;                      // this rank's, of the update at hand
  SpeedWindow speed_;
};

}  // namespace cohort
