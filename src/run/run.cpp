#include "run/run.hpp"

#include <fmt/core.h>

#include <cmath>
#include <utility>

#include "base/disk_file.hpp"
#include "checkpoint/superseded.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "run/class_names.hpp"
#include "run/schedule_notes.hpp"
#include "run/stored_fields.hpp"

namespace cohort {
namespace {

constexpr std::int64_t kOrder = 1;           ///< TrainerState::order: that of SampleOrder

struct OnlyPosition final : Stateful {
  explicit OnlyPosition(TrainerState& of) : state(of) {}
  void load(StateReader& reader) override {
    reader.value("train/step", state.step);
    reader.value("data/epoch", state.position.epoch);
    reader.value("data/sample", state.position.sample);
    reader.added_value("data/order", state.order);
  }
  TrainerState& state;
};

/// Collective. Names of classes and fields are those of the checkpoint.
void take_data(Run& run, OpenCheckpoint& checkpoint) {
  const std::vector<std::string> names = classes_in(checkpoint, run.world);
  run.state.classes = text_of_classes(names);    // if there are none, the checkpoint is loaded without
  run.state.fields = text_of_fields(fields_in(checkpoint, run.world));
  if (names.empty()) return;
  if (!run.plan.classes.empty()) require_same_classes(run.plan.classes, names, checkpoint.path());
  run.plan.name_classes(names);
}

}  // namespace

Run::Run(Communicator& all, Section& config, int ranks, bool root)
    : world(all), profile(*all.context().profile), plan(config), course(plan, ranks),
      policy(plan.train, plan.checkpoint, plan.validation_data != nullptr), skipped(plan.train.max_skipped),
      out(all.context(), state, root, plan.train.epochs) {
  check(plan.with_tasks() || !plan.cluster.dedicated(), Code::invalid_argument,
        "cluster.ps: updater \"" + plan.train.updater + "\" has no parameter tasks; sync_with_backups and async do");
  state.seed = static_cast<std::int64_t>(plan.train.seed);
}

Run::Run(Communicator& alone, Section& config, RunDirectory where, int ranks) : Run(alone, config, ranks, false) {
  out.directory = std::move(where);
  const std::filesystem::path latest = out.directory.checkpoints() / "latest";
  if (!std::filesystem::exists(latest)) return;
  OpenCheckpoint of_the_run(latest);           // which may have gone on from another one
  take_data(*this, of_the_run);
}

Run::Run(Communicator& all, Section& config, const std::string& resume) : Run(all, config, all.size(), all.is_root()) {
  out.directory = choose_directory(all, {plan.train.directory, config.child("train").has("directory")}, resume);
  if (!out.resumes()) return;
  OnlyPosition position(state);
  Stateful* const part = &position;
  checkpoint.emplace(out.directory.resume_from);
  (void)checkpoint->load(&all, std::span(&part, 1), Extra::ignore);
  take_data(*this, *checkpoint);
}

void Run::begin() {
  checkpoint.reset();                          // all of it is loaded, and it may be moved now
  const RunDirectory& directory = out.directory;
  const bool other_order = std::exchange(state.order, kOrder) != kOrder && plan.pipeline.shuffle && state.position.sample > 0 &&
                           plan.training_data->size() > SampleOrder::kMostListed;
  state.classes = text_of_classes(plan.classes);
  state.fields = text_of_fields(plan.fields);
  if (!directory.has_best) state.has_best = 0;
  course.begin_at(state.step, state.position);
  out.progress.set_total(course.total_steps());
  if (!out.is_root()) return;
  replace_file(directory.path / "configuration.toml", plan.config_text);
  const MetricsStart from{.after_step = out.resumes() ? state.step : -1, .validates = state.validation_due != 0,
                          .host = world.context().host};
  out.metrics.open(directory.path, from);
  for (std::size_t i = 0; plan.phases.phases().size() > 1 && i < plan.phases.phases().size(); ++i) {
    if (plan.phases.phases()[i].begin < plan.train.epochs) out.progress.note(course.text(i));
  }
  if (!plan.classes_note.empty()) out.progress.note(plan.classes_note);
  for (const std::string& note : schedule_notes(*this)) out.progress.note(note);
  if (!out.resumes()) return;
  const std::string where = directory.fresh ? ", in " + directory.path.string() : "";
  out.progress.note(fmt::format("{} from {} at step {}{}", directory.fresh ? "started" : "resumed", directory.resume_from.string(),
                            state.step, where));
  if (other_order) {
    out.progress.note(fmt::format("the checkpoint is from a version that visited more than {} samples in another order: in what is left of "
                              "this epoch some come a second time, and others not at all", SampleOrder::kMostListed));
  }
  const std::string aside = set_later_aside(directory.checkpoints(), state.step);
  if (!aside.empty()) out.progress.note(aside);
}

void Run::applied(double rate, bool settled) {
  ++state.applied;
  state.previous_rate = rate;
  if (settled) skipped.made();
}

void Run::skip(const std::string& why, bool update) {
  skipped.skipped(update);
  ++state.skipped;
  out.metrics.log("skipped", static_cast<double>(state.skipped));
  out.progress.note(fmt::format("step {}: {}", state.step, why));
  skipped.check_in_a_row(state.step);
}

bool Run::worth_saving(bool best) {
  if (!skipped.suspect() || best || over()) {
    skipped.saves();
    return true;
  }
  if (skipped.put_off()) {
    out.progress.note(fmt::format("step {}: no checkpoint while gradients are not finite; it is made after the next update", state.step));
  }
  return false;
}

bool Run::take_validation(const Evaluation& evaluation) {
  state.validation_due = 0;
  result.validation = evaluation;
  const std::string when = state.position.sample == 0 ? fmt::format("epoch {}", state.position.epoch) : fmt::format("step {}", state.step);
  std::string text = fmt::format("{}: validation loss {:.4f}", when, evaluation.loss);
  double score = -evaluation.loss;
  for (const auto& [name, value] : evaluation.metrics) {
    text += fmt::format(", {} {:.4f}", name, value);
    if (name == "accuracy") score = value;
  }
  out.metrics.log_evaluation(evaluation);
  out.progress.note(text);
  out.metrics.flush();
  return std::isfinite(evaluation.loss) && state.take_score(score);
}

Beat Run::beat() const {
  return {.step = state.step, .applied = state.applied, .skipped = state.skipped, .position = state.position,
          .stopped = result.stopped ? 1 : 0, .loss = result.loss};
}

void Run::take(const Beat& beat) {
  state.step = beat.step;
  state.applied = beat.applied;
  state.skipped = beat.skipped;
  state.position = beat.position;
  result.stopped = beat.stopped != 0;
  result.loss = beat.loss;
}

}  // namespace cohort
