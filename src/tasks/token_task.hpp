#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "run/run.hpp"
#include "tasks/messages.hpp"
#include "tasks/parameter_task.hpp"
#include "tasks/task_layout.hpp"
#include "tasks/token_boundary.hpp"
#include "tasks/token_parts.hpp"
#include "tasks/work_dealer.hpp"

namespace cohort {

/// Decides for all parameter tasks, in one log: which gradients count, when they become an update, when the state is saved; and
/// deals out work to the workers. It lives on rank 0 beside that rank's parameter task and is told here what becomes of the run.
/// One thread, that of the parameter task.
class TokenTask {
 public:
  /// `kept`: where averages of running statistics belong.
  TokenTask(Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local, const Parameters& kept,
            std::vector<std::string> metrics);

  /// A gradient has arrived at the parameter task of this rank.
  void arrived(int worker, std::int64_t) { ++parts_.workers[worker].arrivals; }
  /// A worker that was lost is the last rank of `line` now, and will say when it is ready to work. From the next turn on.
  void replace(int worker, Communicator& line) { parts_.workers.announce(worker, line); }
  /// The process that is being started in place of a lost worker is there: all tasks let it join.
  void hire() { parts_.log.emit({.kind = LogKind::join, .worker = hiring_}); }
  /// It is not, and nobody waits for it any longer. `last`: no further processes can be started.
  void do_without(bool last);
  /// The rank whose place it is to take.
  [[nodiscard]] int hiring_rank() const { return parts_.workers[hiring_].rank; }
  /// That of this rank's parameter task. It must outlive this object's work.
  void save_with(CheckpointWriter& writer) noexcept { boundary_.save_with(writer); }
  /// Moves everything on; never blocks. True if anything happened.
  bool turn();
  [[nodiscard]] bool flushed();

  [[nodiscard]] WorkerCounts counts(int worker) const { return parts_.places.counts(worker); }
  /// A line per worker, and how stale gradients were, for people.
  [[nodiscard]] std::string table() const;

 private:
  // What is heard.
  bool admit();
  void hear_stop();
  void take_losses();
  void replace_lost();
  bool take_acks();
  bool hear();
  void take(int worker, const Done& done);

  // Gradients become updates.
  bool judge_complete();
  void judge(int worker);

  TokenBoundary boundary_;
  TokenParts parts_;
  WorkDealer dealer_;
  std::int64_t replacements_left_;
  int hiring_ = -1;                          // the worker in whose place a process is being started; -1: none
};

}  // namespace cohort
