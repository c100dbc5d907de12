#include "run/run.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/disk_file.hpp"
#include "base/sizes.hpp"
#include "checkpoint/superseded.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "run/class_names.hpp"
#include "run/schedule_notes.hpp"
#include "run/stored_fields.hpp"

namespace cohort {
namespace {

/// The beginning of `Run::result_text`, as it lies in memory; behind it come the name and the value of each metric.
struct ResultHeader {
  Beat beat;
  std::int64_t all_there = 0, saved = 0;
  std::int64_t metrics = -1;                   // of the last validation; -1: there was none
  double loss = 0;
  std::int64_t samples = 0;
};

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

std::int64_t updates_of(std::int64_t epochs, const PhaseLength& phase) {
  return product_of({{"train.epochs", epochs}, {"updates per epoch", phase.updates_per_epoch}});
}

}  // namespace

template <class Io, class Self>
void TrainerState::describe(Io& io, Self& self) {
  io.value("train/step", self.step);
  io.value("train/applied", self.applied);
  io.value("train/skipped", self.skipped);
  io.value("train/samples", self.samples);
  io.value("data/epoch", self.position.epoch);
  io.value("data/sample", self.position.sample);
  io.value("schedule/previous_learning_rate", self.previous_rate);
  io.value("train/best", self.best);
  io.value("train/has_best", self.has_best);
  io.value("train/seed", self.seed);
  io.added_value("train/validation_due", self.validation_due);
  io.added_value("data/order", self.order);
  if (!self.classes.empty()) io.text("data/classes", self.classes);
  if (!self.fields.empty()) io.text("data/fields", self.fields);
}

void TrainerState::save(StateWriter& writer) const { describe(writer, *this); }
void TrainerState::load(StateReader& reader) { describe(reader, *this); }

bool TrainerState::take_score(double score) {
  if (!std::isfinite(score) || (has_best != 0 && score <= best)) return false;
  has_best = 1;
  best = score;
  return true;
}

Run::Run(Communicator& all, Section& config, int ranks, bool root)
    : world(all), profile(*all.context().profile), plan(config),
      replicas(is_replay()    ? plan.replay.learners
               : with_tasks() ? plan.cluster.spec(ranks).num_tasks("worker")
                              : ranks),
      progress(all.context(), root, plan.train.epochs), root_(root) {
  check(with_tasks() || !plan.cluster.dedicated(), Code::invalid_argument,
        "cluster.ps: updater \"" + plan.train.updater + "\" has no parameter tasks; sync_with_backups and async do");
  state.seed = static_cast<std::int64_t>(plan.train.seed);
}

Run::Run(Communicator& alone, Section& config, RunDirectory where, int ranks) : Run(alone, config, ranks, false) {
  directory = std::move(where);
  const std::filesystem::path latest = directory.checkpoints() / "latest";
  if (std::filesystem::exists(latest)) take_data(latest);       // of the run, which may have gone on from another one
}

Run::Run(Communicator& all, Section& config, const std::string& resume) : Run(all, config, all.size(), all.is_root()) {
  directory = choose_directory(all, {plan.train.directory, config.child("train").has("directory")}, resume);
  if (!resumes()) return;
  OnlyPosition position(state);
  Stateful* const part = &position;
  (void)load_checkpoint(directory.resume_from, std::span(&part, 1), Extra::ignore);
  take_data(directory.resume_from);
}

void Run::take_data(const std::filesystem::path& checkpoint) {
  const std::vector<std::string> names = classes_in(checkpoint);
  state.classes = text_of_classes(names);    // if there are none, the checkpoint is loaded without
  state.fields = text_of_fields(fields_in(checkpoint));
  if (names.empty()) return;
  if (!plan.classes.empty()) require_same_classes(plan.classes, names, checkpoint);
  plan.name_classes(names);
}

/// A run that fails before its first step leaves nothing behind.
Run::~Run() {
  const bool fails = std::uncaught_exceptions() > exceptions_before_;
  if (!fails || directory.lock == nullptr || !directory.fresh || made_steps_ || saved) return;
  metrics.clear();
  std::error_code none;
  std::filesystem::remove_all(directory.path, none);
}

PhaseLength Run::length(const TrainingPhase& phase) const {
  const PhaseBatches batches = phase.batches(plan.pipeline, replicas);
  return {batches.pipeline, batches.ways, plan.training_data->size(), plan.train.accumulate};
}

double Run::rate(const PhaseLength& phase, const Position& position) const {
  return plan.schedule->rate(phase.updates_before(position), {.steps_per_epoch = phase.updates_per_epoch,
                                                              .total_steps = updates_of(plan.train.epochs, phase),
                                                              .global_batch = phase.update_samples});
}

std::int64_t Run::steps_left() const {
  std::int64_t left = 0;
  for (const TrainingPhase& phase : plan.phases.phases()) {
    const std::int64_t begin = std::max(phase.begin, state.position.epoch), end = std::min(phase.end, plan.train.epochs);
    if (begin >= end) continue;
    const PhaseLength here = length(phase);
    left = sum_of({{"updates of earlier phases", left}, {"updates of this one", updates_of(end - begin, here)}});
    if (begin == state.position.epoch) left -= state.position.sample / here.update_samples;
  }
  return left;
}

std::string Run::text(std::size_t index) const {
  const TrainingPhase& phase = plan.phases.phases()[index];
  const int active = phase.active(replicas);
  const std::int64_t end = std::min(phase.end, plan.train.epochs);
  std::string text = end - phase.begin == 1 ? fmt::format("epoch {}: ", end) : fmt::format("epochs {} to {}: ", phase.begin + 1, end);
  text += fmt::format("{} of {} replicas, {}, {} samples per step, learning rate {:.4g}", active, replicas, phase.updater,
                      length(phase).update_samples, rate(length(phase), {phase.begin, 0}));
  return text;
}

void Run::begin() {
  const bool other_order = std::exchange(state.order, kOrder) != kOrder && plan.pipeline.shuffle && state.position.sample > 0 &&
                           plan.training_data->size() > SampleOrder::kMostListed;
  state.classes = text_of_classes(plan.classes);
  state.fields = text_of_fields(plan.fields);
  if (!directory.has_best) state.has_best = 0;
  total_steps = sum_of({{"updates that were made", state.step}, {"updates to make", steps_left()}});
  if (plan.train.max_steps > 0) total_steps = std::min(total_steps, plan.train.max_steps);
  (void)product_of({{"updates", total_steps}, {"train.accumulate", plan.train.accumulate}});   // batches are counted as well
  progress.set_total(total_steps);
  if (!is_root()) return;
  replace_file(directory.path / "configuration.toml", plan.config_text);
  const MetricsStart from{.after_step = resumes() ? state.step : -1, .validates = state.validation_due != 0,
                          .host = world.context().host};
  metrics.push_back(json_lines_writer(directory.path / "metrics.jsonl", from));
  metrics.push_back(tensorboard_writer(directory.path / "tensorboard", from));
  for (std::size_t i = 0; plan.phases.phases().size() > 1 && i < plan.phases.phases().size(); ++i) {
    if (plan.phases.phases()[i].begin < plan.train.epochs) progress.note(text(i));
  }
  if (!plan.classes_note.empty()) progress.note(plan.classes_note);
  for (const std::string& note : schedule_notes(*this)) progress.note(note);
  if (!resumes()) return;
  const std::string where = directory.fresh ? ", in " + directory.path.string() : "";
  progress.note(fmt::format("{} from {} at step {}{}", directory.fresh ? "started" : "resumed", directory.resume_from.string(),
                            state.step, where));
  if (other_order) {
    progress.note(fmt::format("the checkpoint is from a version that visited more than {} samples in another order: in what is left of "
                              "this epoch some come a second time, and others not at all", SampleOrder::kMostListed));
  }
  const std::string aside = set_later_aside(directory.checkpoints(), state.step);
  if (!aside.empty()) progress.note(aside);
}

void Run::applied(double rate, bool settled) {
  ++state.applied;
  state.previous_rate = rate;
  if (!settled) return;
  skipped_in_a_row_ = 0;
  suspect_ = false;
}

void Run::skip(const std::string& why, bool update) {
  suspect_ = suspect_ || update;
  ++state.skipped;
  log("skipped", static_cast<double>(state.skipped));
  progress.note(fmt::format("step {}: {}", state.step, why));
  if (++skipped_in_a_row_ < plan.train.max_skipped) return;
  fail(Code::out_of_range, fmt::format("gradients were not finite in {} steps in a row, up to step {}: the run has diverged; try a smaller "
                                       "learning rate or train.clip_norm", skipped_in_a_row_, state.step));
}

bool Run::validates_here(bool last) const {
  if (!plan.validation_data) return false;
  const bool epoch_ended = state.position.sample == 0 && state.position.epoch > 0;
  return (epoch_ended && validates_after(state.position.epoch)) || (last && !result.stopped);
}

bool Run::worth_saving(bool best) {
  if (!suspect_ || best || over()) {
    put_off_ = false;
    return true;
  }
  if (!std::exchange(put_off_, true)) {
    progress.note(fmt::format("step {}: no checkpoint while gradients are not finite; it is made after the next update", state.step));
  }
  return false;
}

bool Run::take_validation(const Evaluation& evaluation) {
  state.validation_due = 0;
  result.validation = evaluation;
  const std::string when = state.position.sample == 0 ? fmt::format("epoch {}", state.position.epoch) : fmt::format("step {}", state.step);
  std::string text = fmt::format("{}: validation loss {:.4f}", when, evaluation.loss);
  if (state.position.sample == 0) log("epoch", static_cast<double>(state.position.epoch));     // that ended here
  log("validation/loss", evaluation.loss);
  double score = -evaluation.loss;
  for (const auto& [name, value] : evaluation.metrics) {
    text += fmt::format(", {} {:.4f}", name, value);
    log("validation/" + name, value);
    if (name == "accuracy") score = value;
  }
  progress.note(text);
  flush_metrics();
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

std::string Run::result_text(bool all_there) const {
  ResultHeader header{.beat = beat(), .all_there = all_there ? 1 : 0, .saved = saved ? 1 : 0};
  std::string text(sizeof header, '\0');
  if (result.validation) {
    header.metrics = std::ssize(result.validation->metrics);
    header.loss = result.validation->loss;
    header.samples = result.validation->samples;
    for (const auto& [name, value] : result.validation->metrics) {
      text += name + '\0';
      text.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  }
  std::memcpy(text.data(), &header, sizeof header);
  return text;
}

bool Run::take_result(const std::string& text) {
  ResultHeader header;
  check(text.size() >= sizeof header, Code::data_loss, "rank 0 has sent the result of a run, and what has come is none");
  std::memcpy(&header, text.data(), sizeof header);
  take(header.beat);
  saved = header.saved != 0;
  if (header.metrics >= 0) {
    Evaluation& evaluation = result.validation.emplace();
    evaluation.loss = header.loss;
    evaluation.samples = header.samples;
    std::size_t at = sizeof header;
    for (std::int64_t i = 0; i < header.metrics; ++i) {
      auto& [name, value] = evaluation.metrics.emplace_back();
      name = text.c_str() + at;
      at += name.size() + 1;
      check(at + sizeof value <= text.size(), Code::data_loss, "rank 0 has sent the result of a run, and what has come is cut off");
      std::memcpy(&value, text.data() + at, sizeof value);
      at += sizeof value;
    }
  }
  conclude();
  return header.all_there != 0;
}

void Run::share_result(int active) {
  if (active < world.size()) {
    std::string text = is_root() ? result_text(true) : "";
    world.broadcast(text, 0);
    if (!is_root()) take_result(text);
  }
  conclude();
}

void Run::conclude() {
  result.steps = state.step;
  result.skipped = state.skipped;
  result.directory = directory.path;
  if (saved) result.checkpoint = directory.checkpoints() / "latest";
}

}  // namespace cohort
