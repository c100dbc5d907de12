#pragma once

#include <cstdint>
#include <string>

#include "run/phases.hpp"
#include "run/setup.hpp"

namespace cohort {

/// The way that a run takes through its phases: how long each is, which learning rate a position has, and how many updates are left.
class RunCourse {
 public:
  /// `ranks` of the run. The description outlives this object.
  RunCourse(const Description& plan, int ranks);

  [[nodiscard]] int replicas() const noexcept { return replicas_; }        ///< that can train: all ranks, workers, or learners of a replay
  [[nodiscard]] const TrainingPhase& phase(const Position& position) const { return plan_.phases.phases()[plan_.phases.at(position.epoch)]; }
  [[nodiscard]] PhaseLength length(const TrainingPhase& phase) const;
  /// The learning rate at a position, in a phase of this length.
  [[nodiscard]] double rate(const PhaseLength& phase, const Position& position) const;
  /// What a phase is, for people.
  [[nodiscard]] std::string text(std::size_t phase) const;

  /// Counts the updates that are left, once it is known where the run begins.
  void begin_at(std::int64_t step, const Position& position);
  [[nodiscard]] std::int64_t total_steps() const noexcept { return total_steps_; }
  [[nodiscard]] bool is_logged(std::int64_t step) const { return step % plan_.train.log_every == 0 || step == 1 || step == total_steps_; }

 private:
  [[nodiscard]] std::int64_t steps_left(const Position& position) const;

  const Description& plan_;
  int replicas_;
  std::int64_t total_steps_ = 0;
};

}  // namespace cohort
