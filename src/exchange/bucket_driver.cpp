#include "exchange/bucket_driver.hpp"

namespace cohort {
namespace {

constexpr double kBrief = 2e-6;          // seconds: a poll that found nothing to do stays out of the trace

}  // namespace

void BucketDriver::begin(std::int64_t step) {
  step_ = step;
  all_there_.store(false, std::memory_order_relaxed);
  buckets_.begin();
  if (thread_) thread_->start();
}

void BucketDriver::poll() {
  if (thread_ || buckets_.idle()) return;
  const PhaseScope communicating(profile_, Phase::exchange, kBrief);
  (void)drive();
}

bool BucketDriver::drive() {
  for (std::size_t bucket = 0; buckets_.take_next(bucket);) reduction_.launch(bucket);
  if (buckets_.launched() == 0) return false;
  const bool done = reduction_.poll() && buckets_.all_launched();
  if (buckets_.all_launched() && reduction_.first_work(buckets_.size() - 1).agreed()) all_there_.store(true, std::memory_order_release);
  return done;
}

/// Of the first bucket that is under way; with a thread of its own, just of the whole.
WaitStatus BucketDriver::status() const {
  for (std::size_t b = 0; !thread_ && b < buckets_.launched(); ++b) {
    const Work& work = reduction_.current_work(b);
    if (work.running()) return work.status();
  }
  return {.operation = "sum of the gradients", .step = step_};
}

void BucketDriver::wait() {
  bool done = false;
  {
    const PhaseScope waiting(profile_, Phase::slowest);
    reduction_.communicator().wait([this] { return status(); }, [&] { return (done = advance()) || all_there_.load(std::memory_order_acquire); });
  }
  reduction_.communicator().wait([this] { return status(); }, [&] { return done || advance(); });
}

}  // namespace cohort
