#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <utility>

#include "cohort/watch/detector.hpp"
#include "watch/socket.hpp"
#include "watch/verdict.hpp"

namespace cohort {

/// What a rank's threads and its detector's thread tell each other. Any thread.
class Notices {
 public:
  struct Failure {
    std::string reason;               // empty: there is none
    Report where{};                   // what the rank did then
  };

  /// Of the rank: it is about to end because of an error. The first one stays.
  void fail(const std::string& reason, const Report& where) {
    {
      const std::lock_guard lock(mutex_);
      if (failure_.reason.empty()) failure_ = {reason, where};
    }
    acknowledge();
    wake_.signal();
  }
  [[nodiscard]] Failure failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }
  /// Of the rank: it has noticed the verdict, or its own error, and ends by itself.
  void acknowledge() noexcept { acknowledged_.store(true, std::memory_order_release); }
  [[nodiscard]] bool acknowledged() const noexcept { return acknowledged_.load(std::memory_order_acquire); }
  /// Of the rank: it has done its part.
  void leave() noexcept {
    leaving_.store(true, std::memory_order_release);
    wake_.signal();
  }
  [[nodiscard]] bool leaving() const noexcept { return leaving_.load(std::memory_order_acquire); }

  /// Of the detector: all ranks have done their parts.
  void let_go() noexcept { free_to_go_.store(true, std::memory_order_release); }
  [[nodiscard]] bool free_to_go() const noexcept { return free_to_go_.load(std::memory_order_acquire); }
  /// Of the detector. The first verdict stays: false if there was one.
  bool decide(const Verdict& verdict) {
    const std::lock_guard lock(mutex_);
    if (verdict_.kind != Verdict::Kind::none) return false;
    verdict_ = verdict;
    return true;
  }
  [[nodiscard]] Verdict verdict() const {
    const std::lock_guard lock(mutex_);
    return verdict_;
  }

  /// What the detector's thread waits at beside its connections.
  [[nodiscard]] WakeUp& wake_up() noexcept { return wake_; }

 private:
  mutable std::mutex mutex_;
  Failure failure_;                   // guarded, like
  Verdict verdict_;
  std::atomic<bool> acknowledged_{false}, leaving_{false}, free_to_go_{false};
  WakeUp wake_;
};

}  // namespace cohort
