#include "updaters/exchange_updater.hpp"

#include <numeric>
#include <utility>

#include "updaters/gradient_verdict.hpp"

namespace cohort {

ExchangeUpdater::ExchangeUpdater(const ParameterLayout& layout, const UpdaterOptions& options)
    : layout_(layout), clip_norm_(options.clip_norm), order_(layout.trained().size()) {
  std::iota(order_.begin(), order_.end(), std::size_t{0});
}

void ExchangeUpdater::exchange_by(std::unique_ptr<GradientExchange> exchange) {
  exchange_ = std::move(exchange);
  if (!exchange_->each_batch()) accumulator_.emplace(layout_, *reduction().store());
}

Tensor ExchangeUpdater::gradient(std::size_t parameter) const {
  const GradientStore* const store = reduction().store();
  return store == nullptr ? Tensor() : store->gradient(parameter);
}

void ExchangeUpdater::begin_batch(bool last) {
  last_batch_ = last;
  if (accumulator_) accumulator_->begin_batch(last);
}

/// Where the ranks sum an update once, the gradients of all its batches are added up before they become ready.
void ExchangeUpdater::ready(std::size_t parameter, const Tensor* value) {
  if (!accumulator_ || accumulator_->complete(parameter)) exchange_->ready(parameter, value);
}

void ExchangeUpdater::contribute_zeros() {
  if (accumulator_ && !last_batch_) return;
  if (reduction().store() != nullptr) reduction().store()->zero();
  for (const std::size_t parameter : order_) ready(parameter, nullptr);
  end_batch();
}

void ExchangeUpdater::end_batch() {
  if (last_batch_) return;                     // `finish` ends it
  if (accumulator_) accumulator_->end_batch();
  else exchange_->end_batch();
}

StepOutcome ExchangeUpdater::finish(const StepInfo& info, const StepScalars& mine) {
  const StepScalars sums = exchange_->finish(mine);
  const GradientVerdict verdict(reduction().sum_of_squares(), 1, clip_norm_);      // the same bits everywhere
  if (verdict.finite) {
    StepInfo scaled = info;
    scaled.gradient_scale = verdict.scale;
    update(scaled);
  } else {
    exchange_->take_back();
  }
  if (accumulator_) accumulator_->clear();
  return {.applied = verdict.finite, .gradient_norm = verdict.norm, .scalars = sums};
}

UpdaterMemory ExchangeUpdater::memory() const noexcept {
  const GradientMemory gradients = reduction().memory();
  return {.gradients = gradients.kept, .exchange = gradients.all, .residuals = reduction().compression().feedback().bytes(),
          .gradients_apart = gradients.apart};
}

}  // namespace cohort
