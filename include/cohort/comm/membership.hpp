#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

namespace cohort {

/// Which ranks of a job may be lost without ending it, and which have been. One per rank, shared by all its communicators and
/// its detector. Any thread.
class Membership {
 public:
  struct Loss {
    int rank = 0;
    std::string reason;                   ///< "rank 3 on node7 ended before the job was done: …"
  };

  /// From here on those ranks are named when they are lost, and the others go on. Ranks must call it alike. `heartbeat_timeout`:
  /// seconds of silence after which such a rank counts as lost.
  void allow_losses(const std::vector<int>& ranks, double heartbeat_timeout);
  [[nodiscard]] bool may_lose(int rank) const;
  [[nodiscard]] double heartbeat_timeout() const;

  /// A rank that may be lost has been; for others, and a second time, this does nothing.
  void lose(int rank, const std::string& reason);
  [[nodiscard]] bool lost(int rank) const;
  [[nodiscard]] std::vector<Loss> losses() const;                                      ///< in the order in which they were noticed
  /// How many so far: cheap enough to ask in every turn of a loop.
  [[nodiscard]] std::size_t count() const noexcept { return count_.load(std::memory_order_acquire); }

 private:
  mutable std::mutex mutex_;
  std::vector<int> may_lose_;
  double heartbeat_timeout_ = 0;
  std::vector<Loss> losses_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace cohort
