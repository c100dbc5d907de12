#pragma once

#include <exception>
#include <memory>
#include <string>

#include "cohort/base/context.hpp"
#include "report/progress_line.hpp"
#include "run/metric_sink.hpp"
#include "run/run_directory.hpp"

namespace cohort {

/// What a run writes and shows: its directory, its metrics, and the lines that people watch. Only the rank that is `root` does.
class RunOutput {
 public:
  RunOutput(const Context& context, const TrainerState& state, bool root, std::int64_t epochs)
      : metrics(state), progress(context, root, epochs), root_(root) {}
  RunOutput(const RunOutput&) = delete;
  RunOutput& operator=(const RunOutput&) = delete;
  /// A run that fails before its first step leaves nothing behind.
  ~RunOutput();

  /// Does this rank write the files, and tell people?
  [[nodiscard]] bool is_root() const noexcept { return root_; }
  [[nodiscard]] bool resumes() const { return !directory.resume_from.empty(); }
  /// Error failed_precondition if another job has taken the directory over.
  void end_step();

  RunDirectory directory;
  MetricSink metrics;
  ProgressLine progress;
  bool saved = false;                        ///< there is a checkpoint of this run

 private:
  bool root_, made_steps_ = false;
  int exceptions_before_ = std::uncaught_exceptions();
};

}  // namespace cohort
