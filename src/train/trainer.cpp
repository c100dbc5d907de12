#include "cohort/train/trainer.hpp"

#include <filesystem>
#include <optional>
#include <utility>

#include "checkpoint/handover.hpp"
#include "cohort/base/stop.hpp"
#include "cohort/comm/control.hpp"
#include "report/run_report.hpp"
#include "run/class_names.hpp"
#include "run/run.hpp"
#include "run/run_directory.hpp"
#include "run/shared_result.hpp"
#include "run/stored_fields.hpp"
#include "tasks/farewell.hpp"
#include "tasks/replay_training.hpp"
#include "tasks/task_training.hpp"
#include "train/phase_trainer.hpp"

namespace cohort {
namespace {

/// The ranks of one phase and what they have; the rest follow.
class PhaseRanks {
 public:
  /// Collective over all ranks of the run.
  PhaseRanks(Run& run, const TrainingPhase& phase) : run_(run), active_(phase.active(run.world.size())) {
    Communicator& world = run.world;
    if (active_ < world.size()) group_.emplace(world.split(world.rank() < active_ ? 0 : 1));
    if (active_ < world.size() && run.out.is_root()) followers_.emplace(world, active_);
    if (world.rank() < active_) {
      trainer_ = std::make_unique<PhaseTrainer>(run, group_ ? *group_ : world, phase, followers_ ? &*followers_ : nullptr);
    }
  }

  [[nodiscard]] int active() const noexcept { return active_; }

  /// Collective. At the beginning of the run.
  void start() {
    if (trainer_) trainer_->replica().start();
  }
  /// Collective. `before`: so many ranks have trained in the phase that left `handover`.
  void start_from(Handover& handover, int before) {
    handover.give(run_.world, trainer_ ? std::span<Stateful* const>(trainer_->replica().parts) : std::span<Stateful* const>());
    handover.give_residuals(run_.world, before, active_, trainer_ ? &trainer_->replica().updater->residuals() : nullptr);
    if (trainer_) trainer_->replica().go_on();
  }

  /// Collective. To the end of the phase or the run.
  void train() {
    if (trainer_) trainer_->train();
    else run_.take(follow(run_.world));
  }
  void leave_to(Handover& handover) {
    if (trainer_) handover.take(trainer_->replica().parts, trainer_->replica().updater->residuals());
  }

 private:
  Run& run_;
  int active_;
  std::optional<Communicator> group_;
  std::optional<Followers> followers_;
  std::unique_ptr<PhaseTrainer> trainer_;
};

void close_reports(Run& run) {
  run.out.progress.finish();
  run.out.metrics.close();
  run.profile.stop();
  run.result.seconds = run.profile.wall();
}

RankSummary summary_of(const Run& run) {
  RankSummary mine = cohort::summary_of(run.profile);
  mine.set_host(run.world.context().host);
  mine.samples = run.summary.samples;
  mine.flops = run.summary.flops;
  mine.memory = run.summary.memory;
  return mine;
}

/// On rank 0: where time and memory of the ranks went.
void note_summary(Run& run, const std::vector<RankSummary>& ranks) {
  run.out.progress.note("\n" + RunReport::table(ranks, run.plan.config_text, run.out.directory.path));
}

/// Collective over those that are there: other ranks learn the result from rank 0, and rank 0 where their time went.
void end_with_those_there(Run& run, RunReport& report, Farewell& farewell) {
  const std::vector<RankSummary> ranks = farewell.gather(summary_of(run));
  const bool all_there = std::ssize(ranks) == run.world.size();
  std::string text = run.out.is_root() ? result_text(run, all_there) : "";
  farewell.tell(text);
  const bool traced = run.out.is_root() ? all_there : take_result(run, text);
  if (traced) report.trace(run.out.directory.path);                // collective: all must be there
  else if (run.out.is_root() && run.plan.trace.record) run.out.progress.note("no trace.json, which takes all ranks: some were lost");
  if (!run.out.is_root()) return;
  run.result.lost = run.world.membership()->losses();
  note_summary(run, ranks);
}

TrainResult train_by_tasks(Run& run) {
  RunReport report(run.world, run.plan.trace);
  Farewell farewell(run.world);
  const bool complete = run.plan.replay.on ? train_replay(run) : train_with_tasks(run);
  close_reports(run);
  share_result(run, run.world.size());
  if (complete) end_with_those_there(run, report, farewell);
  return run.result;
}

}  // namespace

TrainResult train(Communicator& communicator, Section& config, const std::string& resume) {
  Run run(communicator, config, resume);
  if (run.plan.with_tasks()) return train_by_tasks(run);
  auto phase = std::make_unique<PhaseRanks>(run, run.phase());
  phase->start();
  RunReport report(communicator, run.plan.trace);
  run.begin();
  for (phase->train(); !run.over(); phase->train()) {
    Handover handover(communicator);
    phase->leave_to(handover);
    const int before = phase->active();
    phase.reset();                           // its memory goes before the next phase's comes
    phase = std::make_unique<PhaseRanks>(run, run.phase());
    phase->start_from(handover, before);
  }
  share_result(run, phase->active());
  close_reports(run);
  const std::vector<RankSummary> ranks = all_gather_value(communicator, summary_of(run));
  report.trace(run.out.directory.path);
  if (run.out.is_root()) note_summary(run, ranks);
  return run.result;
}

void train_as_replacement(Communicator& parents, Communicator& alone, Section& config) {
  const Introduction told(parents);
  Run run(alone, config, RunDirectory{.path = told.directory()}, alone.context().ranks);
  run.take(told.beat());
  if (run.plan.train.threads == 0) run.plan.train.threads = told.threads();
  train_in_place_of_worker(run, parents, told);
  run.profile.stop();
}

namespace {

/// Labels are those of the checkpoint. One that keeps no names has the numbers that its training data gave them.
void take_classes(Description& description, Section& config, OpenCheckpoint& checkpoint, Communicator& ranks) {
  std::vector<std::string> names = classes_in(checkpoint, ranks);
  const bool named = !description.validation_data->classes().names.empty();
  if (names.empty() && named) names = open_data(config.child("data").child("train"))->classes().names;
  description.name_classes(names);
}

}  // namespace

Evaluation evaluate(Communicator& communicator, Section& config, const std::string& checkpoint) {
  Description description(config, DataUse::evaluation);
  check(description.validation_data != nullptr, Code::invalid_argument, "evaluate needs a [data.validation] section in the job file");
  OpenCheckpoint file(find_directory(communicator, description.train.directory, checkpoint).resume_from);
  take_classes(description, config, file, communicator);
  Setup setup(communicator, std::move(description));
  check_same_model(communicator, setup.replica->graph());
  load_parameters(communicator, setup, file);
  if (communicator.rank() == 0 && !setup.classes_note.empty()) communicator.context().log.warning(setup.classes_note);
  BatchPipeline data(setup.validation_data, setup.pipeline, communicator.rank(), communicator.size(), BatchUse::evaluation);
  std::optional<Evaluation> evaluation = evaluate(communicator, *setup.replica, data);
  if (!evaluation) throw StopRequested("stopped as asked in the evaluation, which has no result yet");
  return std::move(*evaluation);
}

JobFields fields_of_job(Communicator& alone, Section& config) {
  Section& data = config.child("data");
  std::string why;
  for (const char* set : {"train", "validation"}) {
    if (!data.has(set)) continue;
    try {   // any of these will do
      const std::shared_ptr<const Reader> reader = open_reader(data.child(set));
      return {reader->fields(), std::string("data.") + set + " (" + std::to_string(reader->size()) + " samples)"};
    } catch (const Error& error) {
      if (error.code() != Code::not_found) throw;
      why += std::string("data.") + set + ": " + error.what() + "; ";
    }
  }
  const std::string directory = TrainOptions(config.child("train")).directory;
  try {
    OpenCheckpoint file(find_directory(alone, directory, "").resume_from);
    if (std::vector<Field> fields = fields_in(file, alone); !fields.empty()) return {std::move(fields), file.path().string()};
    why += file.path().string() + ": does not keep the fields of its data";
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    why += error.what();
  }
  fail(Code::not_found, "nothing says which fields the model is given: " + why);
}

}  // namespace cohort
