#include "exchange/gradient_exchange.hpp"

#include <utility>

namespace cohort {
namespace {

/// Why no second thread may talk to other ranks; empty: one may. Error failed_precondition where one is insisted on in vain.
std::string why_no_thread(const Communicator& communicator, const Device& device, const ExchangeOptions& options) {
  check(device.info().host_accessible, Code::failed_precondition,
        "exchange.thread = \"on\": gradients of " + device.info().name() + " pass through host memory on the main thread");
  std::string why = communicator.transport().why_one_thread();
  check(why.empty() || options.thread != "on", Code::failed_precondition,
        "exchange.thread = \"on\": " + why + ", so a second thread must not talk to other ranks; \"auto\" goes without");
  return why;
}

}  // namespace

GradientExchange::GradientExchange(Communicator& communicator, const ParameterLayout& layout, Device& device, const ExchangeOptions& options,
                                   const ReductionBuilder& reduction, bool own_thread)
    : layout_(layout), profile_(*communicator.context().profile), buckets_(layout, options),
      reduction_(reduction({communicator, layout, device, options, buckets_})) {
  if (options.each_batch && reduction_->store() != nullptr) batch_sums_.emplace(*reduction_);
  driver_ = std::make_unique<BucketDriver>(buckets_, *reduction_, profile_);
  if (!own_thread || communicator.size() == 1) return;
  why_no_thread_ = why_no_thread(communicator, device, options);
  if (why_no_thread_.empty()) driver_->start_thread();
}

void GradientExchange::begin(std::int64_t step) {
  step_ = step;
  batch_ = 0;
  reduction_->begin(step_, batch_);
  driver_->begin(step_);
}

void GradientExchange::ready(std::size_t parameter, const Tensor* value) {
  buckets_.check_missing(parameter);
  reduction_->ready(parameter, value);
  if (buckets_.arrive(parameter)) poll();
}

void GradientExchange::end_batch() {
  reduction_->end_batch(nullptr);
  buckets_.end();
  {
    const PhaseScope communicating(profile_, Phase::exchange);
    driver_->wait();
    if (batch_sums_) batch_sums_->keep(batch_ == 0);
  }
  reduction_->begin(step_, ++batch_);
  driver_->begin(step_);
}

StepScalars GradientExchange::finish(const StepScalars& mine) {
  const PhaseScope communicating(profile_, Phase::exchange);
  reduction_->end_batch(&mine);
  buckets_.end();
  driver_->wait();
  if (batch_sums_ && batch_ > 0) batch_sums_->add_kept();
  return reduction_->finish();
}

/// Where one number of a coded block is not finite none is, and nobody writes what pads rows.
void GradientExchange::take_back() {
  Compression& compression = reduction_->compression();
  if (compression.encoding() == Encoding::compressed && reduction_->store() != nullptr) reduction_->store()->zero();
  compression.feedback().take_back();
}

std::string GradientExchange::text() const {
  std::string text = std::to_string(buckets_.size()) + (buckets_.size() == 1 ? " bucket over " : " buckets over ") + reduction_->text();
  if (driver_->has_thread()) text += ", from a thread of its own";
  if (!why_no_thread_.empty()) text += ", without the thread that a free core is there for: " + why_no_thread_;
  if (batch_sums_ && !batch_sums_->empty()) text += ", every batch of an update by itself";
  if (reduction_->compression().lossy()) text += "; " + reduction_->compression().text();
  return text;
}

std::string GradientExchange::codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const {
  return cohort::codec_note(asked, layout_, steps, why_no_codec(reduction_->compression().lossy(), ranks));
}

}  // namespace cohort
