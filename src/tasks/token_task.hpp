#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "run/run.hpp"
#include "tasks/async_progress.hpp"
#include "tasks/messages.hpp"
#include "tasks/parameter_task.hpp"
#include "tasks/running_statistics.hpp"
#include "tasks/task_layout.hpp"
#include "tasks/task_log.hpp"
#include "tasks/token_work.hpp"
#include "tasks/worker_places.hpp"
#include "tasks/worker_roster.hpp"

namespace cohort {

/// Decides for all parameter tasks, in one log: which gradients count, when they become an update, when the state is saved; and
/// deals out work to the workers. It lives on rank 0 beside that rank's parameter task and is told here what becomes of the run.
/// One thread, that of the parameter task.
class TokenTask final : private TokenWorkHost {
 public:
  /// `kept`: where averages of running statistics belong.
  TokenTask(Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local, const Parameters& kept,
            std::vector<std::string> metrics);

  /// A gradient has arrived at the parameter task of this rank.
  void arrived(int worker, std::int64_t) { ++workers_[worker].arrivals; }
  /// A worker that was lost is the last rank of `line` now, and will say when it is ready to work. From the next turn on.
  void replace(int worker, Communicator& line) { workers_.announce(worker, line); }
  /// The process that is being started in place of a lost worker is there: all tasks let it join.
  void hire() { log_.emit({.kind = LogKind::join, .worker = hiring_}); }
  /// It is not, and nobody waits for it any longer. `last`: no further processes can be started.
  void do_without(bool last);
  /// The rank whose place it is to take.
  [[nodiscard]] int hiring_rank() const { return workers_[hiring_].rank; }
  /// That of this rank's parameter task. It must outlive this object's work.
  void save_with(CheckpointWriter& writer) noexcept { writer_ = &writer; }
  /// Moves everything on; never blocks. True if anything happened.
  bool turn();
  [[nodiscard]] bool flushed();

  [[nodiscard]] WorkerCounts counts(int worker) const { return places_.counts(worker); }
  /// A line per worker, and how stale gradients were, for people.
  [[nodiscard]] std::string table() const;

 private:
  // What is heard.
  bool admit();
  void hear_stop();
  void take_losses();
  void lose(int worker);
  void replace_lost();
  bool take_acks();
  bool hear();
  void take(int worker, const Done& done);

  // Gradients become updates.
  bool judge_complete();
  void judge(int worker);

  // Work.
  void begin_phase();
  void deal();
  [[nodiscard]] bool deal_training(int worker);
  void send(int worker, Token token);
  void beat();
  void publish();

  // Between updates, for `work_`.
  [[nodiscard]] Boundary boundary() const override { return progress_.boundary(); }
  [[nodiscard]] bool is_drained() override { return rules().in_steps() || rules().under_way() == 0; }
  void average_statistics() override;
  [[nodiscard]] bool save(bool best) override;
  void mark_best() override { writer_->mark_best(); }
  [[nodiscard]] bool needs_nobody() override;
  [[nodiscard]] bool take_evaluation(std::span<const double> sums) override { return progress_.take_evaluation(sums); }
  void pass(bool end) override;
  void end() override { log_.emit({.kind = LogKind::end, .complete = losses_ == 0 ? 1 : 0}); }

  [[nodiscard]] Aggregation& rules() noexcept { return progress_.plan().rules(); }
  [[nodiscard]] double now() const { return service_.context().clock->now(); }

  Run& run_;
  Communicator& service_;
  const TaskLayout& layout_;
  RunningStatistics statistics_;
  AsyncProgress progress_;
  TaskLog log_;
  WorkerRoster workers_;
  TokenWork work_;
  WorkerPlaces places_;
  CheckpointWriter* writer_ = nullptr;
  std::vector<float> averages_;              // of the workers' statistics
  std::int64_t replacements_left_;
  int hiring_ = -1;                          // the worker in whose place a process is being started; -1: none
  std::size_t losses_ = 0;
  double last_progress_ = 0, last_beat_ = 0, last_publish_ = 0;
};

}  // namespace cohort
