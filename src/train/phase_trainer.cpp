#include "cohort/comm/control.hpp"
#include "train/phase_trainer.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

namespace cohort {
namespace {

void log_bucket(const MetricSink& metrics, const BucketReport& report) {
  const std::string bucket = fmt::format("exchange/bucket_{}/", report.bucket);
  metrics.log(bucket + "bytes", report.bytes);
  metrics.log(bucket + "ratio", report.ratio);
  metrics.log(bucket + "relative_error", report.relative_error);
  metrics.log(bucket + "residual_ratio", report.residual_ratio);
}

}  // namespace

PhaseTrainer::PhaseTrainer(Run& run, Communicator& active, const TrainingPhase& phase, Followers* followers)
    : run_(run), state_(run.state), phase_(phase), followers_(followers), replica_(run, active, phase),
      before_update_(replica_.setup.replica->graph(), *replica_.setup.parameters),
      gradients_(replica_.setup, run.profile, *replica_.updater,
                 {.computed = [this](const SampleBatch&, double weight, const BatchResult& result) { add_to_scalars(result, weight); },
                  .after_batch = [this] { beat(); }}) {
  if (replica_.setup.replica->is_joint()) gradients_.sum_over(active);
}

void PhaseTrainer::train() {
  checkpoints_.emplace(run_, replica_.communicator, replica_.setup, replica_.updater->residuals(), replica_.parts);
  replica_.describe();
  finish_validation();
  speed_.begin(run_.profile.now(), 0);
  while (!over()) {
    update();
    const Boundary due = run_.policy.due(run_.point(), phase_.end);
    if (state_.position.sample == 0 || due.end) end_of_epoch(due);
    else if (due.save_of_step) (void)save(false);
  }
  if (run_.ends_at_its_start()) end_of_epoch(run_.policy.due(run_.point(), phase_.end));
  replica_.settle();
  checkpoints_->close();
  replica_.add_to_summary();
  if (followers_ != nullptr) followers_->end(run_.beat());
}

void PhaseTrainer::add_to_scalars(const BatchResult& result, double weight) {
  scalars_.loss += static_cast<float>(weight * result.loss);
  for (std::size_t m = 0; m < result.metrics.size(); ++m) scalars_.metrics[m] += static_cast<float>(weight * result.metrics[m]);
}

void PhaseTrainer::beat() {
  if (followers_ != nullptr) followers_->beat(run_.beat());
}

void PhaseTrainer::update() {
  Communicator& communicator = replica_.communicator;
  Updater& updater = *replica_.updater;
  run_.profile.begin_step(state_.step + 1);
  const PhaseScope computing(run_.profile, Phase::compute);
  communicator.begin_step(state_.step);
  const std::int64_t samples = replica_.samples_of_update();
  const double rate = run_.course.rate(replica_.length, state_.position);
  const StepInfo info{.step = state_.step, .applied = state_.applied, .learning_rate = rate,
                      .previous_learning_rate = state_.applied > 0 ? state_.previous_rate : rate};
  scalars_ = {};
  before_update_.keep();
  if (run_.course.is_logged(state_.step + 1)) updater.observe_next_step();
  updater.begin(info);
  gradients_.make(replica_.data, {.step = state_.step, .samples = samples});
  const bool stop = communicator.context().stop_requested() || (followers_ != nullptr && followers_->want_to_stop());
  scalars_.stop = stop ? 1.f : 0.f;
  const StepOutcome outcome = updater.finish(info, scalars_);
  if (!outcome.applied || outcome.missed_here) before_update_.put_back();
  after_update(outcome, rate, samples);
  run_.profile.end_step();
}

void PhaseTrainer::after_update(const StepOutcome& outcome, double rate, std::int64_t samples) {
  const PhaseScope reporting(run_.profile, Phase::other);
  ++state_.step;
  state_.samples += samples;
  const std::int64_t epoch = state_.position.epoch;
  state_.position = replica_.data.position();
  if (outcome.applied) run_.applied(rate, outcome.settled && !outcome.missed);
  if (!outcome.applied || outcome.missed) run_.skip(replica_.updater->skipped_text());
  run_.result.loss = outcome.scalars.loss;
  run_.result.stopped = outcome.settled && outcome.scalars.stop > 0;
  speed_.add(samples);
  run_.out.progress.step(state_.step, epoch, samples, run_.result.loss);
  checkpoints_->poll();
  if (replica_.setup.train.check_replicas && outcome.settled) replica_.check_replicas();
  if (run_.course.is_logged(state_.step)) log_step(outcome, rate);
  run_.out.end_step();
}

void PhaseTrainer::log_step(const StepOutcome& outcome, double rate) {
  const Replica& replica = *replica_.setup.replica;
  const MetricSink& metrics = run_.out.metrics;
  std::array<double, kMostMetrics> values{};
  std::ranges::copy(outcome.scalars.metrics, values.begin());
  metrics.log_step({.loss = outcome.scalars.loss, .names = replica.metric_names(), .values = values, .rate = rate, .norm = outcome.gradient_norm,
                    .replicas = static_cast<double>(replica_.communicator.size()), .batch = static_cast<double>(replica_.length.update_samples)});
  for (const BucketReport& each : replica_.updater->reports()) log_bucket(metrics, each);
  speed_.log(metrics, run_.profile.now(), "gflops_per_second", replica.cost().flops, 1e9);      // of rank 0
  if (run_.profile.steps() > 0) metrics.log("step_seconds_p50", run_.profile.step_quantile(0.5));
}

/// Saves first: validation may fail, and what the epoch made is there then. Ranks that fail do not meet again, so nobody begins
/// before all have copied their state, and a checkpoint that needs files of all of them is finished before.
void PhaseTrainer::end_of_epoch(const Boundary& due) {
  replica_.settle();
  state_.validation_due = run_.policy.validates(run_.point()) ? 1 : 0;
  const bool saved = due.save_of_epoch && save(false);
  if (!due.evaluation) return;
  if (saved && checkpoints_->in_parts()) checkpoints_->close();
  barrier(replica_.communicator);
  if (!validate()) {
    if (run_.result.stopped && !saved) (void)save(false);
    return;
  }
  if (saved) checkpoints_->mark_best();
  else (void)save(true);
}

/// Of a state that was saved before it.
void PhaseTrainer::finish_validation() {
  if (!replica_.validates()) state_.validation_due = 0;
  if (state_.validation_due != 0 && validate()) (void)save(true);
}

bool PhaseTrainer::validate() {
  const PhaseScope validating(run_.profile, Phase::validation);
  const std::optional<Evaluation> evaluation = replica_.evaluate([this] { beat(); });
  if (evaluation) return run_.take_validation(*evaluation);
  run_.result.stopped = true;                // a run that goes on from here validates first
  return false;
}

bool PhaseTrainer::save(bool best) {
  const PhaseScope saving(run_.profile, Phase::checkpoint);
  if (!run_.worth_saving(best)) return false;
  if (run_.keeps_all()) checkpoints_->keep_all();
  replica_.settle();
  checkpoints_->save(best);
  return true;
}

}  // namespace cohort
