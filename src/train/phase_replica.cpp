#include "train/phase_replica.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "checkpoint/residual_files.hpp"
#include "cohort/base/random.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/control.hpp"

namespace cohort {
namespace {

Description of_phase(Description plan, const TrainingPhase& phase, int ranks) {
  plan.train.updater = phase.updater;
  plan.make_updater = phase.make_updater;
  plan.pipeline = phase.pipeline(plan.pipeline, ranks);
  return plan;
}

/// Samples of this rank's part of a batch that is not an epoch's last.
std::int64_t usual_share(const PipelineOptions& options, std::int64_t global_batch, const Communicator& ranks) {
  if (!options.rank_batches.empty()) return options.rank_batches[static_cast<std::size_t>(ranks.rank())];
  return std::max<std::int64_t>(global_batch / ranks.size(), 1);
}

}  // namespace

PhaseReplica::PhaseReplica(Run& whole, Communicator& active, const TrainingPhase& phase)
    : run(whole), communicator(active), length(whole.course.length(phase)), setup(active, of_phase(whole.plan, phase, whole.world.size())),
      data(setup.training_data, setup.pipeline, active.rank(), active.size()), updater(make_updater()),
      parts{&whole.state, setup.parameters.get()} {
  if (setup.validation_data) {
    validation_ = std::make_unique<BatchPipeline>(setup.validation_data, setup.pipeline, active.rank(), active.size(), BatchUse::evaluation);
  }
  check(setup.replica->metric_names().size() <= kMostMetrics, Code::invalid_argument,
        fmt::format("a model may report at most {} metrics", kMostMetrics));
  check(!setup.train.check_replicas || setup.parameters->values().whole(), Code::invalid_argument,
        "train.check_replicas: the ranks keep one copy of the parameters between them, there is nothing to compare");
  setup.replica->bind_gradients(setup.parameters->layout(), *updater, usual_share(setup.pipeline, data.global_batch(), active));
  check_same_model(communicator, setup.replica->graph());
}

std::unique_ptr<Updater> PhaseReplica::make_updater() {
  if (!Registry<UpdaterType>::instance().get(setup.train.updater).places_parameters) setup.place_parameters();
  return setup.make_updater(communicator, *setup.parameters, *setup.optimizer, setup.replica->session(), setup.updater);
}

void PhaseReplica::start() {
  if (run.out.resumes()) {
    const CheckpointHeader header = run.checkpoint->load(&communicator, parts);
    ResidualFiles::load(communicator, updater->residuals(), header.path);
    updater->parameters_changed();
  }
  setup.parameters->for_each_start_value([&](const Tensor& value, bool mine) {
    std::vector<float> values(static_cast<std::size_t>(value.elements()));
    if (run.out.is_root()) values = value.to_vector<float>();
    broadcast_values(communicator, std::span<float>(values), 0);
    if (mine) value.copy_from(Tensor::of(value.shape(), values));
  });
  barrier(communicator);                    // shared parameters are there
  data.seek(run.state.position);
}

void PhaseReplica::go_on() {
  updater->parameters_changed();
  barrier(communicator);
  data.seek(run.state.position);
}

std::int64_t PhaseReplica::samples_of_update() const {
  const std::int64_t all = setup.pipeline.drop_last ? data.steps_per_epoch() * data.global_batch() : data.reader().size();
  return std::min(length.update_samples, all - data.position().sample);
}

std::optional<Evaluation> PhaseReplica::evaluate(const std::function<void()>& after_batch) {
  return cohort::evaluate(communicator, *setup.replica, *validation_, after_batch);
}

void PhaseReplica::settle() {
  updater->settle();
  average_statistics(communicator, *setup.parameters);
}

void PhaseReplica::check_replicas() const {
  std::string bytes;                       // running statistics are each rank's own until they are averaged
  for (std::size_t p = 0; p < setup.parameters->layout().trained().size(); ++p) {
    const std::vector<float> values = setup.parameters->value(p).to_vector<float>();
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  const auto hashes = all_gather_value(communicator, stream_of(bytes));
  for (std::size_t r = 1; r < hashes.size(); ++r) {
    if (hashes[r] != hashes[0]) {
      fail(Code::internal, fmt::format("after step {} the parameters of ranks 0 and {} differ", run.state.step, r));
    }
  }
}

void PhaseReplica::describe() const {
  ProgressLine& progress = run.out.progress;
  const int all = run.world.size();
  const std::string ranks = communicator.size() == all ? fmt::format("{} ranks", all) : fmt::format("{} of {} ranks", communicator.size(), all);
  progress.set_team(run.plan.phases.phases().size() > 1 ? fmt::format("  {} replicas", communicator.size()) : "");
  progress.note(fmt::format("{} parameters, {}, {} samples per step, {} steps per epoch, learning rate {:.4g}, {}; writing to {}",
                            setup.parameters->layout().elements(), ranks, length.update_samples, length.updates_per_epoch,
                            run.course.rate(length, run.state.position), updater->text(), run.out.directory.path.string()));
  const std::string codec = updater->codec_note(setup.updater.exchange, communicator, run.course.total_steps());
  if (!codec.empty()) progress.note(codec);
  const std::string plan = updater->memory_plan();
  if (!plan.empty()) progress.note(plan);
  else if (communicator.size() > 1 && !setup.group) progress.note("every rank has parameters of its own: " + setup.no_group);
}

void PhaseReplica::add_to_summary() const {
  RankSummary& summary = run.summary;
  summary.samples += setup.replica->cost().samples;
  summary.flops += setup.replica->cost().flops;
  MemorySummary memory = memory_of(*setup.replica, *setup.parameters, *updater);
  memory.batches = data.batch_bytes() + (validation_ ? validation_->batch_bytes() : 0);
  if (memory.device_total >= summary.memory.device_total) summary.memory = memory;
}

}  // namespace cohort
