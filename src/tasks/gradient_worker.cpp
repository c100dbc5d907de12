#include "tasks/gradient_worker.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace cohort {
namespace {

/// All gradients lie in one piece.
FlatRange everything(const ParameterLayout& layout) { return {0, layout.flat_size()}; }

void add(Done& done, const SampleBatch& batch, const BatchResult& result) {
  const auto n = static_cast<double>(batch.samples);
  done.samples += batch.samples;
  done.sums[0] += n * result.loss;
  for (std::size_t m = 0; m < result.metrics.size(); ++m) done.sums[1 + m] += n * result.metrics[m];
}

}  // namespace

GradientWorker::GradientWorker(Run& run, Setup& setup, Hooks hooks)
    : run_(run), setup_(setup), hooks_(std::move(hooks)),
      store_(setup.parameters->layout(), setup.replica->session().device(), std::array{everything(setup.parameters->layout())}),
      accumulator_(setup.parameters->layout(), store_),
      source_(setup, run.profile, *this,
              {.computed = [this](const SampleBatch& batch, double, const BatchResult& result) { add(done_, batch, result); }}) {
  setup.replica->bind_gradients(setup.parameters->layout(), *this, setup.pipeline.batch);
}

BatchPipeline& GradientWorker::batches_of(const Token& token) {
  for (Batches& each : batches_) {
    if (each.phase == token.phase && each.share == token.share && each.shares == token.shares) return *each.pipeline;
  }
  std::erase_if(batches_, [&](const Batches& each) { return each.phase != token.phase; });
  const PhaseBatches how = run_.plan.phases.phases()[static_cast<std::size_t>(token.phase)].batches(run_.plan.pipeline, run_.course.replicas());
  PipelineOptions options = how.pipeline;
  if (token.in_steps == 0) options.threads = 0;      // which batch comes next is known only where every update takes the next one
  batches_.push_back({token.phase, token.share, token.shares,
                      std::make_unique<BatchPipeline>(setup_.training_data, options, token.share, token.shares)});
  return *batches_.back().pipeline;
}

/// The gradient is a mean over this share's samples, if the update's batch has equal shares: so does its sum over all shares,
/// divided by their number, weigh every sample alike, in a short batch as well.
Done GradientWorker::make(const Token& token) {
  BatchPipeline& data = batches_of(token);
  if (data.position() != token.position) data.seek(token.position);
  done_ = {.kind = DoneKind::trained};
  source_.make(data, {.step = token.step, .samples = token.samples, .scale = static_cast<double>(token.shares)});
  accumulator_.clear();
  done_.norm = std::sqrt(store_.sum_of_squares());
  return done_;
}

void GradientWorker::contribute_zeros() {
  if (!accumulator_.in_last_batch()) return;
  store_.zero();
  for (std::size_t p = 0; p < setup_.parameters->layout().trained().size(); ++p) ready(p, nullptr);
}

void GradientWorker::ready(std::size_t p, const Tensor* /*value*/) {
  if (accumulator_.complete(p)) hooks_.ready(p);
}

Done GradientWorker::evaluate(const Token& token) {
  if (validation_share_ != token.share) {
    validation_ = std::make_unique<BatchPipeline>(setup_.validation_data, setup_.pipeline, token.share, token.shares, BatchUse::evaluation);
    validation_share_ = token.share;
  }
  validation_->rewind();
  Done done{.kind = DoneKind::evaluated};
  while (const SampleBatch* batch = validation_->next()) {
    if (run_.world.context().stop_requested()) break;          // whoever asked for it hears that, and takes no result
    if (batch->samples > 0) add(done, *batch, setup_.replica->evaluate(*batch));
  }
  return done;
}

void GradientWorker::add_to_summary() {
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  RankSummary& summary = run_.summary;
  const Device& device = setup_.replica->session().device();
  summary.samples += setup_.replica->cost().samples;
  summary.flops += setup_.replica->cost().flops;
  MemorySummary& m = summary.memory;
  const std::int64_t kept = m.parameters + m.slots;           // in host memory, for others
  m.parameters += setup_.parameters->values().bytes();
  m.gradients = store_.bytes();
  m.activations = static_cast<std::int64_t>(setup_.replica->arena_bytes());
  m.device_total = kept + device.memory().now.load() + (device.info().host_accessible ? m.gradients : 0);
  m.kernels = m.device_total - m.parameters - m.slots - m.gradients - m.activations;
  m.least = kept + setup_.parameters->layout().elements() * kFloat * 2 + static_cast<std::int64_t>(setup_.replica->cost().least_activation_bytes);
  for (const Batches& each : batches_) m.batches += each.pipeline->batch_bytes();
  if (validation_) m.batches += validation_->batch_bytes();
}

}  // namespace cohort
