#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cohort/run/aggregation.hpp"
#include "run/run.hpp"
#include "tasks/messages.hpp"

namespace cohort {

/// One worker's line in the table at the end.
struct WorkerLine {
  int rank = 0;
  WorkerCounts counts;
  bool lost = false, replaced = false;
};

/// What becomes of a run whose updates are made of workers' gradients, wherever these are computed and however they come: the rules
/// and lengths of its phases, what the next gradient is to be of, verdicts, the words of an update, what is logged, and what is
/// due between updates. No messages; one thread.
class AsyncProgress {
 public:
  /// `metrics`: names of what a gradient's Done::sums hold behind the loss.
  AsyncProgress(Run& run, const Clock& clock, std::vector<std::string> metrics);

  /// That of the run's position, with rules that know nothing of what has been.
  void enter_phase();
  [[nodiscard]] bool phase_over() const;
  [[nodiscard]] int trains() const noexcept { return trains_; }                 ///< so many workers do in this phase
  [[nodiscard]] Aggregation& rules() const noexcept { return *rules_; }

  /// With a limit on updates no more gradients are begun than it takes.
  [[nodiscard]] bool wants_more() const;
  /// Work for somebody who may begin; where each gradient has a batch of its own the position moves on.
  [[nodiscard]] Token training(int share);

  /// The verdict on a complete gradient of the worker with this index in the rules.
  [[nodiscard]] LogEntry judge(int index, const Done& news);
  /// All parameters have followed a verdict, `outcome` is what came of it. True if there was an update, made or skipped.
  bool followed(const LogEntry& entry, const Done& news, const StepOutcome& outcome);
  /// Called where a step is logged, behind the usual.
  void on_log(std::function<void()> log) { log_ = std::move(log); }
  void log_counts(std::size_t worker, const WorkerCounts& counts);

  /// After an update, or where the next gradient would be of another epoch.
  [[nodiscard]] Boundary boundary() const;
  /// Tells people of an evaluation: `sums` are samples, then what Done::sums are. True if it is the best so far.
  [[nodiscard]] bool take_evaluation(std::span<const double> sums);
  /// Before the state is saved, after its validation or before it; logs how many gradients were how stale. False: it is not
  /// to be.
  [[nodiscard]] bool may_save(bool validated);

  [[nodiscard]] std::size_t evaluation_sums() const noexcept { return 2 + metrics_.size(); }
  /// By staleness, of all gradients that were judged in all phases.
  [[nodiscard]] std::vector<std::int64_t> staleness() const;
  /// A line per worker, and how stale gradients were, for people.
  [[nodiscard]] std::string table(std::span<const WorkerLine> workers) const;

 private:
  void log_step(double rate);
  void log_staleness();
  [[nodiscard]] std::int64_t samples_left() const;
  [[nodiscard]] Position advanced(const Position& from, std::int64_t samples) const;

  Run& run_;
  const Clock& clock_;
  std::vector<std::string> metrics_;
  std::function<void()> log_;
  std::size_t phase_ = 0;
  int trains_ = 0;
  std::unique_ptr<Aggregation> rules_;
  PhaseBatches batches_;
  PhaseLength length_;
  std::int64_t item_samples_ = 1, items_ = 0;
  std::int64_t pending_ = 0;                 // gradients accepted for the update at hand
  std::vector<std::int64_t> staleness_;      // of earlier phases
  std::array<double, Done::kSums> words_{};  // of the update at hand, over samples
  std::int64_t word_samples_ = 0, saved_step_ = 0;
  double rate_ = 0, norm_ = 0;
  SpeedWindow speed_;
};

}  // namespace cohort
