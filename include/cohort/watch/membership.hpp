#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

namespace cohort {

/// Which ranks of a job may be lost without ending it, which have been, and whose place a new process has taken. One per rank,
/// shared by all its communicators and its detector. Any thread.
class Membership {
 public:
  struct Loss {
    int rank = 0;
    std::string reason;                   ///< "rank 3 on node7 ended before the job was done: …"
  };
  struct Change {
    int rank = 0;
    bool lost = false;                    ///< else it has been replaced
    std::string text;                     ///< the reason, or the new process's host
  };

  /// From here on those ranks are named when they are lost, and the others go on. Ranks must call it alike. `heartbeat_timeout`:
  /// seconds of silence after which such a rank counts as lost.
  void allow_losses(const std::vector<int>& ranks, double heartbeat_timeout);
  [[nodiscard]] bool may_lose(int rank) const;
  [[nodiscard]] double heartbeat_timeout() const;

  /// A rank that may be lost has been; for others, and for one that is lost, this does nothing.
  void lose(int rank, const std::string& reason);
  /// A new process has taken a lost rank's place: it may be lost in turn. Where no loss is known, this does nothing.
  void replace(int rank, const std::string& host);
  [[nodiscard]] bool lost(int rank) const;                                             ///< and not replaced since
  [[nodiscard]] int times_lost(int rank) const;                                        ///< with those that took its place
  [[nodiscard]] std::vector<Loss> losses() const;                                      ///< in the order in which they were noticed
  /// How many losses so far: cheap enough to ask in every turn of a loop.
  [[nodiscard]] std::size_t count() const noexcept { return count_.load(std::memory_order_acquire); }
  /// All that has happened behind the first `from` changes, in order.
  [[nodiscard]] std::vector<Change> changes(std::size_t from) const;

  /// Where a process that takes a lost rank's place reports to be watched as the others are. Rank 0's detector says so; empty
  /// without one.
  void set_door(const std::string& door);
  [[nodiscard]] std::string door() const;

 private:
  [[nodiscard]] bool is_lost(int rank) const;

  mutable std::mutex mutex_;
  std::vector<int> may_lose_;
  double heartbeat_timeout_ = 0;
  std::vector<Change> changes_;
  std::string door_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace cohort
