#include "run/schedule_notes.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace cohort {
namespace {

/// An update of the run: the learning rate that it has, and its number as the schedule counts, in a phase of this length.
struct Update {
  PhaseLength length;
  std::int64_t number = 0;
  double rate = 0;
};

Update update_at(const Run& run, const Position& position) {
  const PhaseLength length = run.course.length(run.plan.phases.phases()[run.plan.phases.at(position.epoch)]);
  return {length, length.updates_before(position), run.course.rate(length, position)};
}

TrainingLength training_length(const Run& run, const PhaseLength& length) {
  return {.steps_per_epoch = length.updates_per_epoch, .total_steps = run.plan.train.epochs * length.updates_per_epoch,
          .global_batch = length.update_samples};
}

/// Where in the data the run is after so many more updates; at its end where there are not so many.
Position position_after(const Run& run, std::int64_t updates) {
  Position at = run.state.position;
  for (const TrainingPhase& phase : run.plan.phases.phases()) {
    const std::int64_t end = std::min(phase.end, run.plan.train.epochs);
    if (at.epoch >= end) continue;
    const PhaseLength here = run.course.length(phase);
    const std::int64_t begun = at.sample / here.update_samples;         // updates of the epoch at hand
    const std::int64_t left = (end - at.epoch) * here.updates_per_epoch - begun;
    if (updates < left) {
      const std::int64_t updated = begun + updates;
      return {at.epoch + updated / here.updates_per_epoch, updated % here.updates_per_epoch * here.update_samples};
    }
    updates -= left;
    at = {end, 0};
  }
  return at;
}

/// The last update of an epoch, or the one before `position` in it.
Position update_before(const Run& run, const Position& position) {
  const std::int64_t epoch = position.sample > 0 ? position.epoch : position.epoch - 1;
  const PhaseLength here = run.course.length(run.plan.phases.phases()[run.plan.phases.at(epoch)]);
  const std::int64_t next = position.sample > 0 ? position.sample / here.update_samples : here.updates_per_epoch;
  return {epoch, std::max<std::int64_t>(next - 1, 0) * here.update_samples};
}

std::int64_t steps_of_all_epochs(const Run& run) {
  std::int64_t steps = 0;
  for (const TrainingPhase& phase : run.plan.phases.phases()) {
    const std::int64_t epochs = std::min(phase.end, run.plan.train.epochs) - phase.begin;
    steps += std::max<std::int64_t>(epochs, 0) * run.course.length(phase).updates_per_epoch;
  }
  return steps;
}

/// Rates that differ by so little are one: other batches move the steps of a schedule a little.
bool differ(double a, double b, double full) { return std::fabs(a - b) > 0.01 * std::max(std::fabs(a), std::fabs(b)) + 1e-3 * full; }

std::string cut_short(const Run& run, double full) {
  const TrainOptions& train = run.plan.train;
  const Update last = update_at(run, position_after(run, run.course.total_steps() - run.state.step - 1));
  const Update end = update_at(run, update_before(run, {train.epochs, 0}));
  const std::int64_t warmup = run.plan.schedule->warmup_steps(training_length(run, last.length));
  if (last.number < warmup && differ(last.rate, full, full)) {
    return fmt::format("the run ends in update {} of the {} of the schedule's warm-up: the learning rate comes to {:.4g}, not to {:.4g}",
                       last.number + 1, warmup, last.rate, full);
  }
  if (!differ(last.rate, end.rate, full)) return {};
  return fmt::format("train.max_steps = {} cuts the {} schedule short, which is made for the {} steps of train.epochs = {}: the learning rate ends "
                     "at {:.4g}, not at {:.4g}", train.max_steps, run.plan.schedule->type(), steps_of_all_epochs(run), train.epochs, last.rate, end.rate);
}

std::string jump(const Run& run, double full) {
  const TrainerState& state = run.state;
  if (!run.out.resumes() || state.applied == 0 || state.position == Position{}) return {};
  // The schedule's rates from where the last update was, which may have been one of more samples, to here.
  const Update next = update_at(run, state.position);
  const std::int64_t samples = state.samples / std::max<std::int64_t>(state.step, 1);
  double low = next.rate, high = next.rate;
  Position at = state.position;
  for (std::int64_t gone = 0; gone < samples + next.length.update_samples && at != Position{}; gone += next.length.update_samples) {
    at = update_before(run, at);
    low = std::min(low, update_at(run, at).rate);
    high = std::max(high, update_at(run, at).rate);
  }
  const double before = state.previous_rate;
  if ((before >= low || !differ(before, low, full)) && (before <= high || !differ(before, high, full))) return {};
  return fmt::format("the learning rate jumps from {:.4g}, in the last update of the checkpoint, to {:.4g}: [schedule], train.epochs or the batch are "
                     "not what they were; the {} schedule is one over {} epochs now", before, next.rate, run.plan.schedule->type(),
                     run.plan.train.epochs);
}

}  // namespace

std::vector<std::string> schedule_notes(const Run& run) {
  if (run.over() || run.course.total_steps() <= run.state.step) return {};
  const PhaseLength here = run.course.length(run.phase());
  const TrainingLength length = training_length(run, here);
  const double full = run.plan.schedule->rate(run.plan.schedule->warmup_steps(length), length);
  std::vector<std::string> notes{jump(run, full), cut_short(run, full)};
  std::erase(notes, "");
  return notes;
}

}  // namespace cohort
