#include "run/course.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/sizes.hpp"

namespace cohort {
namespace {

std::int64_t updates_of(std::int64_t epochs, const PhaseLength& phase) {
  return product_of({{"train.epochs", epochs}, {"updates per epoch", phase.updates_per_epoch}});
}

}  // namespace

RunCourse::RunCourse(const Description& plan, int ranks)
    : plan_(plan), replicas_(plan.replay.on      ? plan.replay.learners
                             : plan.with_tasks() ? plan.cluster.spec(ranks).num_tasks("worker")
                                                 : ranks) {}

PhaseLength RunCourse::length(const TrainingPhase& phase) const {
  const PhaseBatches batches = phase.batches(plan_.pipeline, replicas_);
  return {batches.pipeline, batches.ways, plan_.training_data->size(), plan_.train.accumulate};
}

double RunCourse::rate(const PhaseLength& phase, const Position& position) const {
  return plan_.schedule->rate(phase.updates_before(position), {.steps_per_epoch = phase.updates_per_epoch,
                                                               .total_steps = updates_of(plan_.train.epochs, phase),
                                                               .global_batch = phase.update_samples});
}

std::string RunCourse::text(std::size_t index) const {
  const TrainingPhase& phase = plan_.phases.phases()[index];
  const std::int64_t end = std::min(phase.end, plan_.train.epochs);
  std::string text = end - phase.begin == 1 ? fmt::format("epoch {}: ", end) : fmt::format("epochs {} to {}: ", phase.begin + 1, end);
  text += fmt::format("{} of {} replicas, {}, {} samples per step, learning rate {:.4g}", phase.active(replicas_), replicas_, phase.updater,
                      length(phase).update_samples, rate(length(phase), {phase.begin, 0}));
  return text;
}

void RunCourse::begin_at(std::int64_t step, const Position& position) {
  total_steps_ = sum_of({{"updates that were made", step}, {"updates to make", steps_left(position)}});
  if (plan_.train.max_steps > 0) total_steps_ = std::min(total_steps_, plan_.train.max_steps);
  (void)product_of({{"updates", total_steps_}, {"train.accumulate", plan_.train.accumulate}});   // batches are counted as well
}

std::int64_t RunCourse::steps_left(const Position& position) const {
  std::int64_t left = 0;
  for (const TrainingPhase& phase : plan_.phases.phases()) {
    const std::int64_t begin = std::max(phase.begin, position.epoch), end = std::min(phase.end, plan_.train.epochs);
    if (begin >= end) continue;
    const PhaseLength here = length(phase);
    left = sum_of({{"updates of earlier phases", left}, {"updates of this one", updates_of(end - begin, here)}});
    if (begin == position.epoch) left -= position.sample / here.update_samples;
  }
  return left;
}

}  // namespace cohort
