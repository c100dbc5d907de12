#pragma once

#include <cstdint>
#include <memory>

#include "cohort/run/aggregation.hpp"
#include "run/run.hpp"
#include "tasks/messages.hpp"

namespace cohort {

/// What the next gradient is to be of: the rules of the phase at hand, and the batches that they share out among the workers, or give
/// to each gradient for itself. No messages, no clock.
class GradientPlan {
 public:
  explicit GradientPlan(Run& run);

  /// That of the run's position, with rules that know nothing of what has been.
  void enter_phase();
  [[nodiscard]] bool phase_over() const { return run_.state.position.epoch >= phase().end; }
  [[nodiscard]] std::int64_t phase_end() const { return phase().end; }
  [[nodiscard]] int trains() const noexcept { return trains_; }                 ///< so many workers do in this phase
  [[nodiscard]] Aggregation& rules() const noexcept { return *rules_; }
  [[nodiscard]] const PhaseLength& length() const noexcept { return length_; }

  /// With a limit on updates no more gradients are begun than it takes.
  [[nodiscard]] bool wants_more() const;
  /// Work for somebody who may begin; where each gradient has a batch of its own the position moves on.
  [[nodiscard]] Token training(int share);
  /// A gradient counts for the update at hand.
  void accepted() noexcept { ++pending_; }
  /// That update has been made or skipped.
  void made() noexcept { pending_ = 0; }
  /// Where updates are steps, the next one is of the next batch.
  void step_on();

 private:
  [[nodiscard]] const TrainingPhase& phase() const { return run_.plan.phases.phases()[phase_]; }
  [[nodiscard]] std::int64_t samples_left() const;
  [[nodiscard]] Position advanced(const Position& from, std::int64_t samples) const;

  Run& run_;
  std::size_t phase_ = 0;
  int trains_ = 0;
  std::unique_ptr<Aggregation> rules_;
  PhaseBatches batches_;
  PhaseLength length_;
  std::int64_t item_samples_ = 1, items_ = 0;
  std::int64_t pending_ = 0;                 // gradients accepted for the update at hand
};

}  // namespace cohort
