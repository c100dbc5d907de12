#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "cohort/data/pipeline.hpp"
#include "cohort/params/state.hpp"
#include "cohort/report/metrics_writer.hpp"
#include "cohort/run/result.hpp"
#include "report/progress_line.hpp"
#include "report/rank_summary.hpp"
#include "run/followers.hpp"
#include "run/run_directory.hpp"
#include "run/setup.hpp"

namespace cohort {

/// What the trainer itself must remember.
struct TrainerState final : Stateful {
  std::int64_t step = 0;                    ///< updates applied or skipped
  std::int64_t applied = 0, skipped = 0, samples = 0;
  Position position;
  double previous_rate = 0;
  double best = 0;                          ///< of the metric that chooses the best checkpoint
  std::int64_t has_best = 0;
  std::int64_t seed = 0;
  std::string classes;                      ///< names of classes, a line for each; empty: labels are numbers
  std::string fields;                       ///< what the model is given, a line for each field; empty: not kept
  std::int64_t order = 0;                   ///< in which huge sets are visited; 0: in that of a list, as earlier versions did
  std::int64_t validation_due = 0;          ///< 1: saved before the validation of this state: who resumes it begins with that

  void save(StateWriter& writer) const override;
  void load(StateReader& reader) override;
  /// Is the score above all before? Then it is the best from now on. NaN never is, or nothing could come after it.
  [[nodiscard]] bool take_score(double score);

 private:
  /// `Self`: const where `io` writes a checkpoint.
  template <class Io, class Self>
  static void describe(Io& io, Self& self);
};

/// What lasts for a whole run, whoever trains in it: where it writes, how far it is, and what it tells people.
class Run {
 public:
  /// Collective over `world`: the whole job, or a group of its ranks that is one to itself. Chooses the directory; of a
  /// checkpoint only the position is read, which says in which phase the run begins.
  Run(Communicator& world, Section& config, const std::string& resume);
  /// Of a process that joins a run of so many ranks at work, and writes what it writes in their directory.
  Run(Communicator& alone, Section& config, RunDirectory directory, int ranks);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run();

  /// Do workers send their gradients to parameter tasks? The same in all phases.
  [[nodiscard]] bool with_tasks() const { return bool(plan.phases.phases().front().aggregate); }
  /// Does one process compute what workers would?
  [[nodiscard]] bool is_replay() const { return plan.replay.on; }
  /// Does this rank write the files, and tell people?
  [[nodiscard]] bool is_root() const noexcept { return root_; }
  [[nodiscard]] bool resumes() const { return !directory.resume_from.empty(); }
  [[nodiscard]] const TrainingPhase& phase() const { return plan.phases.phases()[plan.phases.at(state.position.epoch)]; }
  [[nodiscard]] PhaseLength length(const TrainingPhase& phase) const;
  /// By the position in the data, whatever batches it was reached with.
  [[nodiscard]] bool over() const {
    return result.stopped || state.position.epoch >= plan.train.epochs || (plan.train.max_steps > 0 && state.step >= plan.train.max_steps);
  }
  /// No epoch at all, and no checkpoint that says so: what training would begin with is saved and validated.
  [[nodiscard]] bool ends_at_its_start() const { return over() && !resumes() && state.step == 0; }
  /// The learning rate at a position, in a phase of this length.
  [[nodiscard]] double rate(const PhaseLength& phase, const Position& position) const;
  [[nodiscard]] bool is_logged(std::int64_t step) const { return step % plan.train.log_every == 0 || step == 1 || step == total_steps; }

  /// After an update that was applied, and all ranks know it.
  void applied(double rate, bool settled = true);
  /// Counts one that was not, or a gradient that came to none. Error out_of_range after train.max_skipped of them in a row.
  void skip(const std::string& why, bool update = true);
  /// Is there a validation of the state at hand? Where somebody has asked the run to stop, whoever goes on makes it.
  [[nodiscard]] bool validates_here(bool last) const;
  /// False where a save is put off, and that is said: the last update was not made, because a gradient was not finite, and what a
  /// diverging run has must not push out good checkpoints. It is made after the next update. What is the best so far is good.
  [[nodiscard]] bool worth_saving(bool best);
  /// At the end such a state is saved, too, but nothing removed for it.
  [[nodiscard]] bool keeps_all() const { return suspect_ && over(); }
  /// Tells people. True if it is the best so far: by accuracy where the model reports it, else by loss. What is not finite,
  /// or not worth saving, is never the best.
  [[nodiscard]] bool take_validation(const Evaluation& evaluation);
  [[nodiscard]] bool validates_after(std::int64_t epoch) const { return plan.train.validate_every > 0 && epoch % plan.train.validate_every == 0; }
  [[nodiscard]] bool saves_after(std::int64_t epoch) const { return plan.checkpoint.every_epochs > 0 && epoch % plan.checkpoint.every_epochs == 0; }
  [[nodiscard]] bool saves_at(std::int64_t step) const {
    return (put_off_ && !suspect_) || (plan.checkpoint.every_steps > 0 && step % plan.checkpoint.every_steps == 0);
  }

  /// Once the state is that of the first update: the files of rank 0, and what people see first.
  void begin();
  void log(const std::string& name, double value) {
    for (const auto& writer : metrics) writer->scalar(name, state.step, value);
  }
  /// A step is over, and what was logged of it complete, for now. Error failed_precondition if another job has taken the
  /// directory over.
  void end_step() {
    made_steps_ = true;
    if (directory.lock) directory.lock->check();
    for (const auto& writer : metrics) writer->end_step();
  }
  void flush_metrics() {
    for (const auto& writer : metrics) writer->flush();
  }
  [[nodiscard]] Beat beat() const;
  void take(const Beat& beat);                ///< a follower hears how far the others are
  /// What rank 0 knows at the end, for ranks that do not; `all_there`: none was lost.
  [[nodiscard]] std::string result_text(bool all_there) const;
  /// Returns `all_there`.
  bool take_result(const std::string& text);
  /// Collective where fewer than all ranks have been `active` at the end: the others learn the result.
  void share_result(int active);

  Communicator& world;
  Profile& profile;
  Description plan;
  RunDirectory directory;
  int replicas;                               ///< that can train: all ranks, workers, or learners of a replay
  TrainerState state;
  TrainResult result;
  std::int64_t total_steps = 0;
  ProgressLine progress;
  std::vector<std::unique_ptr<MetricsWriter>> metrics;         ///< rank 0 only
  bool saved = false;
  RankSummary summary;                        ///< samples, flops of this rank, and its memory in the phase that took most

 private:
  Run(Communicator& world, Section& config, int ranks, bool root);
  void conclude();
  void take_data(const std::filesystem::path& checkpoint);
  [[nodiscard]] std::string text(std::size_t phase) const;
  [[nodiscard]] std::int64_t steps_left() const;

  bool root_;
  std::int64_t skipped_in_a_row_ = 0;
  bool suspect_ = false, put_off_ = false, made_steps_ = false;
  int exceptions_before_ = std::uncaught_exceptions();
};

}  // namespace cohort
