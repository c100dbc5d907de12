#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "exchange/bucketizer.hpp"
#include "exchange/driver_thread.hpp"
#include "exchange/reduction.hpp"

namespace cohort {

/// Launches buckets as they become complete, and drives their exchange: from a thread of its own, or whenever it is polled.
class BucketDriver {
 public:
  BucketDriver(Bucketizer& buckets, Reduction& reduction, Profile& profile) : buckets_(buckets), reduction_(reduction), profile_(profile) {}

  /// From here on a thread drives it.
  void start_thread() { thread_ = std::make_unique<DriverThread>([this] { return drive(); }); }
  [[nodiscard]] bool has_thread() const noexcept { return thread_ != nullptr; }

  /// A batch of a step begins.
  void begin(std::int64_t step);
  /// Never blocks. Nothing is to be done where a thread does it.
  void poll();
  /// All gradients of the batch have arrived: returns when all buckets have their sums.
  void wait();

 private:
  [[nodiscard]] bool drive();               // any one thread; true when all buckets have their sums
  [[nodiscard]] bool advance() { return thread_ ? thread_->finished() : drive(); }
  [[nodiscard]] WaitStatus status() const;

  Bucketizer& buckets_;
  Reduction& reduction_;
  Profile& profile_;
  std::int64_t step_ = -1;
  std::atomic<bool> all_there_ = false;     // every rank is known to have come to its last bucket
  std::unique_ptr<DriverThread> thread_;    // last: it uses the others
};

}  // namespace cohort
