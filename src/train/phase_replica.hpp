#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "cohort/updaters/updater.hpp"
#include "run/run.hpp"

namespace cohort {

/// What a rank that trains has for one phase and makes anew for the next: a replica of the model, its data, and the updater that it
/// shares with the other ranks of the phase.
class PhaseReplica {
 public:
  /// Collective over the ranks that train.
  PhaseReplica(Run& run, Communicator& active, const TrainingPhase& phase);

  /// Collective, one of them, before the first step: the checkpoint's state, or rank 0's initial values; or `parts` have been written.
  void start();
  void go_on();

  /// Samples of all ranks in the update at hand, known before its first batch.
  [[nodiscard]] std::int64_t samples_of_update() const;
  [[nodiscard]] bool validates() const noexcept { return validation_ != nullptr; }
  /// Collective. Nothing if somebody was asked to stop meanwhile.
  [[nodiscard]] std::optional<Evaluation> evaluate(const std::function<void()>& after_batch);
  /// Collective. From here to the next update parameters and statistics are the same on all ranks.
  void settle();
  /// Collective. Replicas that drift apart are a bug of ours or of the machine; found at the step where it happens. Error internal.
  void check_replicas() const;

  /// Says what trains here, for people.
  void describe() const;
  void add_to_summary() const;

  Run& run;
  Communicator& communicator;
  PhaseLength length;
  Setup setup;
  BatchPipeline data;
  std::unique_ptr<Updater> updater;
  std::array<Stateful*, 2> parts;            ///< what a checkpoint holds

 private:
  std::unique_ptr<Updater> make_updater();

  std::unique_ptr<BatchPipeline> validation_;
};

}  // namespace cohort
