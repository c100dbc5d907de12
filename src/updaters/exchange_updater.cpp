#include "updaters/exchange_updater.hpp"

#include "updaters/gradient_verdict.hpp"

namespace cohort {

/// Where the ranks sum an update once, the gradients of all its batches are added up before they become ready.
void ExchangeUpdater::ready(std::size_t parameter, const Tensor* value) {
  const bool each_batch = exchange_->each_batch();
  if (!last_batch_ && !each_batch) return;
  if (!each_batch) exchange_->add_accumulated(parameter);
  exchange_->ready(parameter, value);
}

void ExchangeUpdater::contribute_zeros() {
  if (!last_batch_ && !exchange_->each_batch()) return;
  exchange_->zero_gradients();
  for (std::size_t p = 0; p < parameters_; ++p) ready(p, nullptr);
  end_batch();
}

void ExchangeUpdater::end_batch() {
  if (last_batch_) return;                     // `finish` ends it
  if (exchange_->each_batch()) exchange_->end_batch();
  else for (std::size_t p = 0; p < parameters_; ++p) exchange_->accumulate(p);
}

StepOutcome ExchangeUpdater::finish(const StepInfo& info, const StepScalars& mine) {
  const StepScalars sums = exchange_->finish(mine);
  const GradientVerdict verdict(exchange_->sum_of_squares(), 1, clip_norm_);      // the same bits everywhere
  if (verdict.finite) {
    StepInfo scaled = info;
    scaled.gradient_scale = verdict.scale;
    update(scaled);
  } else {
    exchange_->take_back();
  }
  exchange_->clear_accumulated();
  return {.applied = verdict.finite, .gradient_norm = verdict.norm, .scalars = sums};
}

UpdaterMemory ExchangeUpdater::memory() const noexcept {
  return {.gradients = exchange_->gradient_bytes(), .exchange = exchange_->bytes(), .residuals = exchange_->residual_bytes(),
          .gradients_apart = exchange_->in_parts()};
}

}  // namespace cohort
