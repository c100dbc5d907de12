#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "checkpoint/residual_files.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "params/kept_statistics.hpp"
#include "run/replica_sums.hpp"
#include "run/run.hpp"

namespace cohort {

/// One phase of a run on the ranks that train in it: a replica, an updater, their data, and the loop over the updates.
class PhaseTrainer {
 public:
  /// Collective over the ranks that train. `followers`: on rank 0, where some ranks do not; else null. Both outlive this object.
  PhaseTrainer(Run& run, Communicator& active, const TrainingPhase& phase, Followers* followers);

  /// Collective, one of them, before `train`: the checkpoint's state, or rank 0's initial values; or the parts have been written.
  void start();
  void go_on();
  /// What a checkpoint holds.
  [[nodiscard]] std::span<Stateful* const> parts() noexcept { return parts_; }
  [[nodiscard]] ResidualKeeper& residuals() noexcept { return updater_->residuals(); }

  /// Collective. To the end of the phase or of the run.
  void train();

 private:
  std::unique_ptr<Updater> make_updater();
  void open_writers();
  void describe();
  [[nodiscard]] bool over() const { return run_.over() || state_.position.epoch >= phase_.end; }

  void update();
  [[nodiscard]] std::int64_t samples_of_update() const;
  void add_to_scalars(const BatchResult& result, double weight);
  void forward_backward(const SampleBatch& batch, double update_samples);
  const SampleBatch* next_batch();
  void after_update(const StepOutcome& outcome, double rate, std::int64_t samples);
  void check_replicas();
  void beat();

  void log_step(const StepOutcome& outcome, double rate);
  void log_bucket(const BucketReport& report);
  void add_to_summary();

  void settle();
  void end_of_epoch(const Boundary& due);
  [[nodiscard]] bool validate();
  void finish_validation();
  bool save(bool best);
  void keep_all();
  void mark_best();
  void close_writers();

  Run& run_;
  TrainerState& state_;
  Communicator& communicator_;
  Profile& profile_;
  TrainingPhase phase_;
  Followers* followers_;
  PhaseLength length_;
  Setup setup_;
  BatchPipeline data_;
  std::unique_ptr<BatchPipeline> validation_;
  std::unique_ptr<ReplicaSums> sums_;                         // if the model takes statistics over all replicas
  std::unique_ptr<Updater> updater_;
  KeptStatistics before_update_, before_batch_;  // what a skipped update, and a batch of no samples, must not change
  std::unique_ptr<ResidualFiles> residuals_;                  // if the exchange keeps some
  std::unique_ptr<CheckpointWriter> writer_;                  // rank 0 only, unless the parameters are in parts
  std::array<Stateful*, 2> parts_;
  StepScalars scalars_;                                       // this rank's, of the update at hand
  bool last_of_update_ = false;
  std::int64_t micro_step_ = 0;
  SpeedWindow speed_;
};

}  // namespace cohort
