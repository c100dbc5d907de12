#include "train/phase_trainer.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "cohort/base/random.hpp"

namespace cohort {
namespace {

Description of_phase(Description plan, const TrainingPhase& phase, int ranks) {
  plan.train.updater = phase.updater;
  plan.make_updater = phase.make_updater;
  plan.pipeline = phase.pipeline(plan.pipeline, ranks);
  return plan;
}

}  // namespace

PhaseTrainer::PhaseTrainer(Run& run, Communicator& active, const TrainingPhase& phase, Followers* followers)
    : run_(run), state_(run.state), communicator_(active), profile_(run.profile), phase_(phase), followers_(followers),
      length_(run.course.length(phase)), setup_(active, of_phase(run.plan, phase, run.world.size())),
      data_(setup_.training_data, setup_.pipeline, active.rank(), active.size()), updater_(make_updater()),
      before_update_(setup_.replica->graph(), *setup_.parameters),
      before_batch_(setup_.replica->graph(), *setup_.parameters), parts_{&state_, setup_.parameters.get()} {
  if (setup_.validation_data) {
    validation_ = std::make_unique<BatchPipeline>(setup_.validation_data, setup_.pipeline, active.rank(), active.size(), BatchUse::evaluation);
  }
  check(setup_.replica->metric_names().size() <= kMostMetrics, Code::invalid_argument,
        fmt::format("a model may report at most {} metrics", kMostMetrics));
  check(!setup_.train.check_replicas || !setup_.parameters->windowed(), Code::invalid_argument,
        "train.check_replicas: the ranks keep one copy of the parameters between them, there is nothing to compare");
  setup_.replica->bind_gradients(*setup_.parameters, *updater_);
  check_same_model(communicator_, setup_.replica->graph());
  if (setup_.replica->is_joint()) {
    sums_ = std::make_unique<ReplicaSums>(communicator_);
    setup_.replica->bind_sum_over_replicas([this](std::span<float> values) { sums_->sum(values); });
  }
}

std::unique_ptr<Updater> PhaseTrainer::make_updater() {
  if (!Registry<UpdaterType>::instance().get(setup_.train.updater).places_parameters) setup_.place_parameters();
  return setup_.make_updater(communicator_, *setup_.parameters, *setup_.optimizer, setup_.replica->session(), setup_.updater);
}

void PhaseTrainer::start() {
  if (run_.out.resumes()) {
    const CheckpointHeader header = run_.checkpoint->load(&communicator_, parts_);
    ResidualFiles::load(communicator_, updater_->residuals(), header.path);
    updater_->parameters_changed();
  }
  setup_.parameters->for_each_start_value([&](const Tensor& value, bool mine) {
    std::vector<float> values(static_cast<std::size_t>(value.elements()));
    if (run_.out.is_root()) values = value.to_vector<float>();
    communicator_.broadcast_values(std::span<float>(values), 0);
    if (mine) value.copy_from(Tensor::of(value.shape(), values));
  });
  communicator_.barrier();                   // shared parameters are there
  data_.seek(state_.position);
}

void PhaseTrainer::go_on() {
  updater_->parameters_changed();
  communicator_.barrier();
  data_.seek(state_.position);
}

void PhaseTrainer::open_writers() {
  ResidualKeeper& kept = updater_->residuals();
  const std::filesystem::path folder = run_.out.directory.checkpoints();
  if (kept.keeps_residuals()) {
    residuals_ = std::make_unique<ResidualFiles>(communicator_.rank(), communicator_.size(), kept, folder, setup_.checkpoint.keep, setup_.config_text,
                                                 communicator_);
  }
  const bool in_parts = setup_.parameters->shard() != nullptr;
  if (run_.out.is_root() || in_parts) {
    writer_ = std::make_unique<CheckpointWriter>(folder, setup_.checkpoint.keep, setup_.config_text, communicator_.context().log,
                                                 in_parts ? &communicator_ : nullptr, communicator_.rank_activity());
  }
}

void PhaseTrainer::train() {
  open_writers();
  describe();
  finish_validation();
  speed_.begin(profile_.now(), 0);
  while (!over()) {
    update();
    const Boundary due = run_.policy.due(run_.point(), phase_.end);
    if (state_.position.sample == 0 || due.end) end_of_epoch(due);
    else if (due.save_of_step) (void)save(false);
  }
  if (run_.ends_at_its_start()) end_of_epoch(run_.policy.due(run_.point(), phase_.end));
  settle();
  close_writers();
  add_to_summary();
  if (followers_ != nullptr) followers_->end(run_.beat());
}

void PhaseTrainer::describe() {
  const int all = run_.world.size();
  const std::string ranks = communicator_.size() == all ? fmt::format("{} ranks", all) : fmt::format("{} of {} ranks", communicator_.size(), all);
  run_.out.progress.set_team(run_.plan.phases.phases().size() > 1 ? fmt::format("  {} replicas", communicator_.size()) : "");
  run_.out.progress.note(fmt::format("{} parameters, {}, {} samples per step, {} steps per epoch, learning rate {:.4g}, {}; writing to {}",
                                 setup_.parameters->elements(), ranks, length_.update_samples, length_.updates_per_epoch,
                                 run_.course.rate(length_, state_.position), updater_->text(), run_.out.directory.path.string()));
  const std::string codec = updater_->codec_note(setup_.updater.exchange, communicator_, run_.course.total_steps());
  if (!codec.empty()) run_.out.progress.note(codec);
  const std::string plan = updater_->memory_plan();
  if (!plan.empty()) run_.out.progress.note(plan);
  else if (communicator_.size() > 1 && !setup_.group) run_.out.progress.note("every rank has parameters of its own: " + setup_.no_group);
}

/// Samples of all ranks in the update at hand, known before its first batch.
std::int64_t PhaseTrainer::samples_of_update() const {
  const std::int64_t all = setup_.pipeline.drop_last ? data_.steps_per_epoch() * data_.global_batch() : data_.reader().size();
  return std::min(length_.update_samples, all - data_.position().sample);
}

void PhaseTrainer::add_to_scalars(const BatchResult& result, double weight) {
  scalars_.loss += static_cast<float>(weight * result.loss);
  for (std::size_t m = 0; m < result.metrics.size(); ++m) scalars_.metrics[m] += static_cast<float>(weight * result.metrics[m]);
}

void PhaseTrainer::forward_backward(const SampleBatch& batch, double update_samples) {
  updater_->begin_batch(last_of_update_);
  if (batch.samples == 0 && !sums_ && !updater_->reads_on_demand()) {
    updater_->contribute_zeros();            // nothing reached this rank: it keeps step with the others
    return;
  }
  const double weight = static_cast<double>(batch.samples) / update_samples;
  const RunOptions options{.seed = setup_.train.seed, .step = micro_step_, .row_offset = batch.row_offset, .row_stride = batch.row_stride};
  if (sums_) sums_->begin(micro_step_);
  // No rows have no mean, unless there are some on other ranks.
  const bool nothing_to_see = batch.samples == 0 && !sums_;
  if (nothing_to_see) before_batch_.keep();
  const BatchResult& result = setup_.replica->train(batch, weight, options);
  if (nothing_to_see) before_batch_.put_back();
  if (batch.samples > 0) add_to_scalars(result, weight);
  updater_->end_batch();
}

const SampleBatch* PhaseTrainer::next_batch() {
  const PhaseScope waiting(profile_, Phase::data);
  return data_.next();
}

void PhaseTrainer::beat() {
  if (followers_ != nullptr) followers_->beat(run_.beat());
}

void PhaseTrainer::update() {
  profile_.begin_step(state_.step + 1);
  const PhaseScope computing(profile_, Phase::compute);
  communicator_.begin_step(state_.step);
  const std::int64_t k = setup_.train.accumulate, samples = samples_of_update();
  const double rate = run_.course.rate(length_, state_.position);
  const StepInfo info{.step = state_.step, .applied = state_.applied, .learning_rate = rate,
                      .previous_learning_rate = state_.applied > 0 ? state_.previous_rate : rate};
  scalars_ = {};
  before_update_.keep();
  if (run_.course.is_logged(state_.step + 1)) updater_->observe_next_step();
  updater_->begin(info);
  for (std::int64_t i = 0; i < k; ++i) {
    const SampleBatch* batch = next_batch();
    last_of_update_ = i + 1 == k || batch->last_in_epoch;
    micro_step_ = state_.step * k + i;
    forward_backward(*batch, static_cast<double>(samples));
    beat();
    if (last_of_update_) break;
  }
  const bool stop = communicator_.context().stop_requested() || (followers_ != nullptr && followers_->want_to_stop());
  scalars_.stop = stop ? 1.f : 0.f;
  const StepOutcome outcome = updater_->finish(info, scalars_);
  if (!outcome.applied || outcome.missed_here) before_update_.put_back();
  after_update(outcome, rate, samples);
  profile_.end_step();
}

void PhaseTrainer::after_update(const StepOutcome& outcome, double rate, std::int64_t samples) {
  const PhaseScope reporting(profile_, Phase::other);
  ++state_.step;
  state_.samples += samples;
  const std::int64_t epoch = state_.position.epoch;
  state_.position = data_.position();
  if (outcome.applied) run_.applied(rate, outcome.settled && !outcome.missed);
  if (!outcome.applied || outcome.missed) run_.skip(updater_->skipped_text());
  run_.result.loss = outcome.scalars.loss;
  run_.result.stopped = outcome.settled && outcome.scalars.stop > 0;
  speed_.add(samples);
  run_.out.progress.step(state_.step, epoch, samples, run_.result.loss);
  if (writer_) writer_->poll();
  if (setup_.train.check_replicas && outcome.settled) check_replicas();
  if (run_.course.is_logged(state_.step)) log_step(outcome, rate);
  run_.out.end_step();
}

/// Replicas that drift apart are a bug of ours or of the machine; found at the step where it happens.
void PhaseTrainer::check_replicas() {
  std::string bytes;                       // running statistics are each rank's own until they are averaged
  for (std::size_t p = 0; p < setup_.parameters->trained().size(); ++p) {
    const std::vector<float> values = setup_.parameters->value(p).to_vector<float>();
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  const auto hashes = communicator_.all_gather_value(stream_of(bytes));
  for (std::size_t r = 1; r < hashes.size(); ++r) {
    if (hashes[r] != hashes[0]) {
      fail(Code::internal, fmt::format("after step {} the parameters of ranks 0 and {} differ", state_.step, r));
    }
  }
}

void PhaseTrainer::log_step(const StepOutcome& outcome, double rate) {
  std::array<double, kMostMetrics> values{};
  std::ranges::copy(outcome.scalars.metrics, values.begin());
  run_.out.metrics.log_step({.loss = outcome.scalars.loss, .names = setup_.replica->metric_names(), .values = values, .rate = rate,
                             .norm = outcome.gradient_norm, .replicas = static_cast<double>(communicator_.size()),
                             .batch = static_cast<double>(length_.update_samples)});
  for (const BucketReport& each : updater_->reports()) log_bucket(each);
  speed_.log(run_.out.metrics, profile_.now(), "gflops_per_second", setup_.replica->cost().flops, 1e9);      // of rank 0
  if (profile_.steps() > 0) run_.out.metrics.log("step_seconds_p50", profile_.step_quantile(0.5));
}

void PhaseTrainer::log_bucket(const BucketReport& report) {
  const std::string bucket = fmt::format("exchange/bucket_{}/", report.bucket);
  run_.out.metrics.log(bucket + "bytes", report.bytes);
  run_.out.metrics.log(bucket + "ratio", report.ratio);
  run_.out.metrics.log(bucket + "relative_error", report.relative_error);
  run_.out.metrics.log(bucket + "residual_ratio", report.residual_ratio);
}

void PhaseTrainer::add_to_summary() {
  RankSummary& summary = run_.summary;
  summary.samples += setup_.replica->cost().samples;
  summary.flops += setup_.replica->cost().flops;
  MemorySummary memory = memory_of(*setup_.replica, *setup_.parameters, *updater_);
  memory.batches = data_.batch_bytes() + (validation_ ? validation_->batch_bytes() : 0);
  if (memory.device_total >= summary.memory.device_total) summary.memory = memory;
}

/// From here to the next update parameters and statistics are the same on all ranks.
void PhaseTrainer::settle() {
  updater_->settle();
  average_statistics(communicator_, *setup_.parameters);
}

/// Saves first: validation may fail, and what the epoch made is there then. Ranks that fail do not meet again, so nobody begins
/// before all have copied their state, and a checkpoint that needs files of all of them is finished before.
void PhaseTrainer::end_of_epoch(const Boundary& due) {
  settle();
  state_.validation_due = run_.policy.validates(run_.point()) ? 1 : 0;
  const bool saved = due.save_of_epoch && save(false);
  if (!due.evaluation) return;
  if (saved && setup_.parameters->shard() != nullptr) close_writers();
  communicator_.barrier();
  if (!validate()) {
    if (run_.result.stopped && !saved) (void)save(false);
    return;
  }
  if (saved) mark_best();
  else (void)save(true);
}

/// Of a state that was saved before it.
void PhaseTrainer::finish_validation() {
  if (!validation_) state_.validation_due = 0;
  if (state_.validation_due != 0 && validate()) (void)save(true);
}

bool PhaseTrainer::validate() {
  const PhaseScope validating(profile_, Phase::validation);
  const std::optional<Evaluation> evaluation = evaluate(communicator_, *setup_.replica, *validation_, [this] { beat(); });
  if (evaluation) return run_.take_validation(*evaluation);
  run_.result.stopped = true;                // a run that goes on from here validates first
  return false;
}

bool PhaseTrainer::save(bool best) {
  const PhaseScope saving(profile_, Phase::checkpoint);
  if (!run_.worth_saving(best)) return false;
  if (run_.keeps_all()) keep_all();
  settle();
  run_.out.saved = true;
  run_.out.metrics.flush();
  if (residuals_) residuals_->save(state_.step, best);
  if (writer_) writer_->save(parts_, state_.step, best);
  return true;
}

void PhaseTrainer::keep_all() {
  close_writers();
  if (residuals_) residuals_->keep_all();
  if (writer_) writer_->keep_all();
}

void PhaseTrainer::mark_best() {
  const PhaseScope saving(profile_, Phase::checkpoint);
  if (residuals_) residuals_->mark_best(state_.step);
  if (writer_) writer_->mark_best();
}

void PhaseTrainer::close_writers() {
  const PhaseScope saving(profile_, Phase::checkpoint);
  if (residuals_) residuals_->close();
  if (writer_) writer_->close();
}

}  // namespace cohort
