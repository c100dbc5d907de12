#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace cohort {

class DiskProgress;

/// What a rank is waiting for.
struct WaitStatus {
  const char* operation = nullptr;   ///< "barrier", "all_reduce", …; null: not waiting. Static text.
  int peer = -1;                     ///< the rank that has to move next; -1: not known. In an Activity: a rank of the job
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

/// How far a rank has come: the step it is at and the bucket that it began to exchange last.
struct StepPosition {
  std::int64_t step = -1;   ///< -1: before the first
  int bucket = -1;          ///< -1: before the first of the step
};

/// What one rank is doing, seen from outside: the waits of all its communicators, which share one of these, and its place in
/// the training loop. Any thread may read it.
class RankActivity {
 public:
  /// Where one more communicator of this rank publishes.
  [[nodiscard]] std::shared_ptr<Activity> add();
  /// The wait that began first; not waiting if there is none.
  [[nodiscard]] WaitStatus longest_wait() const;

  /// One of the rank's threads waits until a file is on the disk, which may take long and is no hang while something moves.
  void begin_disk_wait(std::shared_ptr<const DiskProgress> progress);
  void end_disk_wait(const DiskProgress* progress);
  /// Null if none does.
  [[nodiscard]] std::shared_ptr<const DiskProgress> disk_wait() const;

  /// Some rank of the job is seen to write a file that it waits for: no wait for it is too long, and all count from now.
  void excuse(double now) noexcept { excused_.store(now, std::memory_order_relaxed); }
  [[nodiscard]] double excused() const noexcept { return excused_.load(std::memory_order_relaxed); }

  void arrive(StepPosition position) noexcept;
  [[nodiscard]] StepPosition position() const noexcept;

 private:
  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<const Activity>> activities_;
  std::vector<std::shared_ptr<const DiskProgress>> disk_waits_;
  std::atomic<double> excused_{0};
  std::atomic<std::int64_t> step_{-1};
  std::atomic<int> bucket_{-1};
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
