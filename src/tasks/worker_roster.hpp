#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "tasks/messages.hpp"
#include "tasks/worker_channel.hpp"

namespace cohort {

/// A worker as the token task knows it.
struct TokenPeer {
  TokenPeer(Communicator& line, int at, int job_rank, std::size_t statistics) : rank(job_rank), channel(line, at, statistics) {}

  int rank;                                  ///< in the job
  std::int32_t life = 0;                     ///< how often it has been replaced
  WorkerChannel channel;
  Done news;                                 ///< of its gradient
  bool has_news = false;
  int arrivals = 0;                          ///< parameter tasks that have its gradient
  std::int64_t version = -1;                 ///< that its last gradient was to be of
  std::int64_t skipped = -1;                 ///< that version, if there was no update to it, until it is told
  bool knows_averages = true;                ///< the last average of the workers' statistics
};

/// All workers, by number. A process that takes a lost one's place is announced at any moment, also from within what the token task does
/// with the lost one, and becomes part of the list only where the token task admits it: until then whoever holds a peer holds the
/// same one.
class WorkerRoster {
 public:
  WorkerRoster(Communicator& service, std::span<const int> ranks, std::size_t statistics);

  [[nodiscard]] int size() const noexcept { return static_cast<int>(peers_.size()); }
  [[nodiscard]] TokenPeer& operator[](int worker) { return peers_[static_cast<std::size_t>(worker)]; }
  [[nodiscard]] const TokenPeer& operator[](int worker) const { return peers_[static_cast<std::size_t>(worker)]; }
  [[nodiscard]] auto begin() noexcept { return peers_.begin(); }
  [[nodiscard]] auto end() noexcept { return peers_.end(); }

  /// In this worker's place there is a new process, the last rank of `line`.
  void announce(int worker, Communicator& line) { announced_.emplace_back(worker, &line); }
  /// Takes in one that was announced: which. Nobody holds a peer meanwhile.
  [[nodiscard]] std::optional<int> admit();

 private:
  std::size_t statistics_;
  std::deque<TokenPeer> peers_;
  std::deque<TokenPeer> former_;             // replaced: messages may still be on their way into their memory
  std::deque<std::pair<int, Communicator*>> announced_;
};

}  // namespace cohort
