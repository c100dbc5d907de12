#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "checkpoint/open_checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/data/pipeline.hpp"
#include "cohort/run/result.hpp"
#include "report/rank_summary.hpp"
#include "run/boundary_policy.hpp"
#include "run/course.hpp"
#include "run/followers.hpp"
#include "run/output.hpp"
#include "run/setup.hpp"
#include "run/skipped_updates.hpp"
#include "run/trainer_state.hpp"

namespace cohort {

/// What lasts for a whole run, whoever trains in it: what it is to do, how far it is, what becomes of it, and what it tells people.
class Run {
 public:
  /// Collective over `world`: the whole job, or a group of its ranks that is one to itself. Chooses the directory; of a
  /// checkpoint only the position is read, which says in which phase the run begins.
  Run(Communicator& world, Section& config, const std::string& resume);
  /// Of a process that joins a run of so many ranks at work, and writes what it writes in their directory.
  Run(Communicator& alone, Section& config, RunDirectory directory, int ranks);

  [[nodiscard]] const TrainingPhase& phase() const { return course.phase(state.position); }
  /// `saved_step`: as in RunPoint.
  [[nodiscard]] RunPoint point(std::int64_t saved_step = -1) const {
    return {state.step, state.position, result.stopped, skipped.save_is_late(), saved_step};
  }
  [[nodiscard]] bool over() const { return policy.over(point()); }
  /// No epoch at all, and no checkpoint that says so: what training would begin with is saved and validated.
  [[nodiscard]] bool ends_at_its_start() const { return over() && !out.resumes() && state.step == 0; }

  /// After an update that was applied; `settled`: all ranks know it.
  void applied(double rate, bool settled = true);
  /// Counts one that was not, or a gradient that came to none. Error out_of_range after train.max_skipped of them in a row.
  void skip(const std::string& why, bool update = true);
  /// False where a save is put off, and that is said. It is made after the next update. What is the best so far is good.
  [[nodiscard]] bool worth_saving(bool best);
  /// At the end a suspect state is saved, too, but nothing removed for it.
  [[nodiscard]] bool keeps_all() const { return skipped.suspect() && over(); }
  /// Tells people. True if it is the best so far: by accuracy where the model reports it, else by loss. What is not finite,
  /// or not worth saving, is never the best.
  [[nodiscard]] bool take_validation(const Evaluation& evaluation);

  /// Once the state is that of the first update: the files of rank 0, and what people see first.
  void begin();
  [[nodiscard]] Beat beat() const;
  void take(const Beat& beat);                ///< a follower hears how far the others are

  Communicator& world;
  Profile& profile;
  Description plan;
  RunCourse course;
  std::optional<OpenCheckpoint> checkpoint;   ///< that the run goes on from, until `begin`
  TrainerState state;
  TrainResult result;
  BoundaryPolicy policy;
  SkippedUpdates skipped;
  RunOutput out;
  RankSummary summary;                        ///< samples, flops of this rank, and its memory in the phase that took most

 private:
  Run(Communicator& world, Section& config, int ranks, bool root);
};

}  // namespace cohort
