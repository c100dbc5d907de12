#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>

#include "cohort/base/clock.hpp"

namespace cohort {

/// A thread that drives something that must be polled: in every round it calls `drive` until that says true.
class DriverThread {
 public:
  explicit DriverThread(std::function<bool()> drive) : drive_(std::move(drive)), thread_([this] { work(); }) {}
  DriverThread(const DriverThread&) = delete;
  DriverThread& operator=(const DriverThread&) = delete;
  ~DriverThread() {
    stopping_.store(true);
    wake();
    thread_.join();
  }

  /// Begins a round. Precondition: none is under way.
  void start() {
    finished_.store(false, std::memory_order_relaxed);
    wake();
  }
  /// Never blocks. True when the round has ended; an exception of `drive` ends it, and is thrown here.
  [[nodiscard]] bool finished() const {
    if (!finished_.load(std::memory_order_acquire)) return false;
    if (error_) std::rethrow_exception(error_);
    return true;
  }

 private:
  void wake() {
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_one();
  }

  void work() {
    for (std::uint32_t seen = 0; !stopping_.load();) {
      round_.wait(seen, std::memory_order_acquire);
      seen = round_.load(std::memory_order_acquire);
      if (stopping_.load()) return;
      try {
        Backoff backoff;
        while (!stopping_.load(std::memory_order_relaxed) && !drive_()) backoff.pause();
      } catch (...) {
        error_ = std::current_exception();
      }
      finished_.store(true, std::memory_order_release);
    }
  }

  std::function<bool()> drive_;
  std::exception_ptr error_;
  std::atomic<bool> stopping_ = false, finished_ = true;
  std::atomic<std::uint32_t> round_ = 0;
  std::thread thread_;             // last: it uses the others
};

}  // namespace cohort
