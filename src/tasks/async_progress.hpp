#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cohort/run/aggregation.hpp"
#include "run/run.hpp"
#include "tasks/gradient_plan.hpp"
#include "tasks/messages.hpp"
#include "tasks/staleness.hpp"

namespace cohort {

/// One worker's line in the table at the end.
struct WorkerLine {
  int rank = 0;
  WorkerCounts counts;
  bool lost = false, replaced = false;
};

/// Logs what has become of a worker's gradients.
void log_counts(const MetricSink& metrics, std::size_t worker, const WorkerCounts& counts);

/// What becomes of a run whose updates are made of workers' gradients, wherever these are computed and however they come: verdicts,
/// means over the samples of an update, what is logged, and what is due between updates. No messages; one thread.
class AsyncProgress {
 public:
  /// `metrics`: names of what a gradient's Done::sums hold behind the loss.
  AsyncProgress(Run& run, const Clock& clock, std::vector<std::string> metrics);

  /// What the next gradients are to be of.
  [[nodiscard]] GradientPlan& plan() noexcept { return plan_; }
  /// The phase at hand is over, the next begins.
  void enter_phase();

  /// The verdict on a complete gradient of the worker with this index in the rules.
  [[nodiscard]] LogEntry judge(int index, const Done& news);
  /// All parameters have followed a verdict, `outcome` is what came of it. True if there was an update, made or skipped.
  bool followed(const LogEntry& entry, const Done& news, const StepOutcome& outcome);
  /// Called where a step is logged, behind the usual.
  void on_log(std::function<void()> log) { log_ = std::move(log); }

  /// After an update, or where the next gradient would be of another epoch.
  [[nodiscard]] Boundary boundary() const;
  /// Tells people of an evaluation: `sums` are samples, then what Done::sums are. True if it is the best so far.
  [[nodiscard]] bool take_evaluation(std::span<const double> sums);
  /// Before the state is saved, after its validation or before it; logs how many gradients were how stale. False: it is not
  /// to be.
  [[nodiscard]] bool may_save(bool validated);

  [[nodiscard]] std::size_t evaluation_sums() const noexcept { return 2 + metrics_.size(); }
  /// A line per worker, and how stale gradients were, for people.
  [[nodiscard]] std::string table(std::span<const WorkerLine> workers) const;

 private:
  void log_step(double rate);

  Run& run_;
  const Clock& clock_;
  std::vector<std::string> metrics_;
  std::function<void()> log_;
  GradientPlan plan_;
  StalenessCounts staleness_;
  std::array<double, Done::kSums> sums_{};   // of the update at hand, over its samples: loss, metrics
  std::int64_t samples_ = 0, saved_step_ = 0;
  double rate_ = 0, norm_ = 0;
  SpeedWindow speed_;
};

}  // namespace cohort
