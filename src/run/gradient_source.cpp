#include "run/gradient_source.hpp"

#include <utility>

#include "cohort/base/profile.hpp"

namespace cohort {

GradientSource::GradientSource(Setup& setup, Profile& profile, GradientSink& sink, Hooks hooks)
    : setup_(setup), profile_(profile), sink_(sink), hooks_(std::move(hooks)) {
  if (sink_.reads_on_demand()) before_batch_.emplace(setup_.replica->graph(), *setup_.parameters);
}

void GradientSource::sum_over(Communicator& replicas) {
  sums_ = std::make_unique<ReplicaSums>(replicas);
  setup_.replica->bind_sum_over_replicas([this](std::span<float> values) { sums_->sum(values); });
}

void GradientSource::make(BatchPipeline& data, const UpdateShare& share) {
  const std::int64_t batches = setup_.train.accumulate;
  for (std::int64_t i = 0; i < batches; ++i) {
    const SampleBatch* batch = nullptr;
    {
      const PhaseScope waiting(profile_, Phase::data);
      batch = data.next();
    }
    const bool last = i + 1 == batches || batch->last_in_epoch;
    sink_.begin_batch(last);
    if (batch->samples == 0 && !sums_ && !sink_.reads_on_demand()) {
      sink_.contribute_zeros();              // nothing reached this rank: it keeps step with the others
    } else {
      forward_backward(*batch, static_cast<double>(batch->samples) * share.scale / static_cast<double>(share.samples), share.step * batches + i);
      sink_.end_batch();
    }
    hooks_.after_batch();
    if (last) break;
  }
}

void GradientSource::forward_backward(const SampleBatch& batch, double weight, std::int64_t micro_step) {
  if (sums_) sums_->begin(micro_step);
  // No rows have no mean, unless there are some on other ranks.
  const bool nothing_to_see = batch.samples == 0 && !sums_;
  if (nothing_to_see) before_batch_->keep();
  const BatchResult& result = setup_.replica->train(
      batch, weight, {.seed = setup_.train.seed, .step = micro_step, .row_offset = batch.row_offset, .row_stride = batch.row_stride});
  if (nothing_to_see) before_batch_->put_back();
  if (batch.samples > 0) hooks_.computed(batch, weight, result);
}

}  // namespace cohort
