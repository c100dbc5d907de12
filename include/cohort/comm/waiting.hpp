#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

namespace cohort {

/// What a rank is waiting for.
struct WaitStatus {
  const char* operation = nullptr;   ///< "barrier", "all_reduce", …; null: not waiting. Static text.
  int peer = -1;                     ///< the rank (of the communicator) that has to move next; -1: not known
  std::int64_t step = -1;            ///< -1: not part of a step
  int bucket = -1;
  double since = 0;                  ///< Clock::now() when the wait began

  /// "rank 3 in all_reduce of bucket 2 at step 17"
  [[nodiscard]] std::string text() const;
};

/// Where a rank's thread writes what it waits for and any other thread (a watchdog) reads it. Fields are read one by one,
/// so a reading may mix two waits: good enough to name a hang, which lasts.
class Activity {
 public:
  void publish(const WaitStatus& status) noexcept;
  void clear() noexcept { operation_.store(nullptr, std::memory_order_release); }
  [[nodiscard]] WaitStatus read() const noexcept;

 private:
  std::atomic<const char*> operation_{nullptr};
  std::atomic<int> peer_{-1};
  std::atomic<std::int64_t> step_{-1};
  std::atomic<int> bucket_{-1};
  std::atomic<double> since_{0};
};

/// Ends all waits of one rank from outside: any thread may set it, once; every wait of the rank then throws
/// Error cancelled with the reason.
class CancelFlag {
 public:
  void set(const std::string& reason);                 ///< the first reason stays
  [[nodiscard]] bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
  [[nodiscard]] std::string reason() const;
  void throw_if_set() const {
    if (is_set()) throw_reason();
  }

 private:
  [[noreturn]] void throw_reason() const;

  std::atomic<bool> set_{false};
  mutable std::mutex mutex_;
  std::string reason_;
};

}  // namespace cohort
