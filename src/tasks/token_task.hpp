#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "run/run.hpp"
#include "tasks/messages.hpp"
#include "tasks/outbox.hpp"
#include "tasks/parameter_task.hpp"
#include "tasks/task_layout.hpp"
#include "tasks/async_progress.hpp"

namespace cohort {

/// Decides for all parameter tasks, in one log: which gradients count, when they become an update, when the state is saved; and
/// deals out work to the workers. It lives on rank 0 beside that rank's parameter task and is told here what becomes of the run.
/// One thread, that of the parameter task.
class TokenTask {
 public:
  /// `statistics`: elements of all running statistics; `kept`: where their averages belong.
  TokenTask(Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local, const Parameters& kept,
            std::vector<std::string> metrics);

  /// A gradient has arrived at the parameter task of this rank.
  void arrived(int worker, std::int64_t gradient);
  /// A worker that was lost is the last rank of `line` now, and will say when it is ready to work.
  void replace(int worker, Communicator& line);
  /// The process that is being started in place of a lost worker is there: all tasks let it join.
  void hire() { emit({.kind = LogKind::join, .worker = hiring_}); }
  /// It is not, and nobody waits for it any longer. `last`: no further processes can be started.
  void do_without(bool last);
  /// The rank whose place it is to take.
  [[nodiscard]] int hiring_rank() const { return peers_[static_cast<std::size_t>(hiring_)].rank; }
  /// That of this rank's parameter task. It must outlive this object's work.
  void save_with(CheckpointWriter& writer) noexcept { writer_ = &writer; }
  /// Moves everything on; never blocks. True if anything happened.
  bool turn();
  [[nodiscard]] bool flushed();

  [[nodiscard]] WorkerCounts counts(int worker) const { return counts(peers_[static_cast<std::size_t>(worker)]); }
  /// A line per worker, and how stale gradients were, for people.
  [[nodiscard]] std::string table() const;

 private:
  enum class Stage : std::uint8_t { training, draining, statistics, saving, publishing, evaluating, ending, ended };
  enum class Giving : std::uint8_t { nothing, asked, sending, given };      // of statistics, or that residuals are saved
  struct Peer {                              // a worker
    Peer(Communicator& line, int at, int rank, std::size_t statistics);

    int rank;                                // in the job
    int at;                                  // in the group that it is reached in
    std::int32_t life = 0;                   // how often it has been replaced
    Outbox outbox;
    bool lost = false, idle = false, evaluates = false, ended = false, knows_averages = true;
    int index = -1;                          // in the rules; -1: it does not train now
    Transfer in, statistics_in;
    std::unique_ptr<Done> done = std::make_unique<Done>();    // as it comes in
    Done news;                               // of its gradient
    std::int64_t number = 0;                 // of its work
    std::int64_t version = -1;               // that its last gradient was to be of
    std::int64_t skipped = -1;               // that version, if there was no update to it, until it is told
    std::int64_t heard = -1;                 // number of the work that it has answered last
    int arrivals = 0;                        // parameter tasks that have its gradient
    bool has_news = false;
    int share = 0;
    std::vector<float> statistics;
    Giving giving = Giving::nothing;
    WorkerCounts before;                     // of earlier phases, and of the process before
    WorkerCounts others;                     // of those who had its place in the rules

    [[nodiscard]] bool works() const noexcept { return !lost && (life == 0 || heard >= 0); }      // a new one once it is ready
  };

  // What is heard.
  void hear_stop();
  void take_losses();
  void lose(int worker);
  void replace_lost();
  bool hear();
  void take(int worker, const Done& done);
  void take_evaluation(int worker, const Done& done);
  bool take_acks();

  // Gradients become updates.
  bool judge_complete();
  void judge(int worker);
  StepOutcome emit(LogEntry entry);
  StepOutcome emit_gradient(const LogEntry& entry);

  // Work.
  void enter_phase();
  void begin_phase();
  void deal();
  void count_earlier(Peer& peer);
  void give_place(Peer& peer);
  void take_over(Peer& peer, int index);
  [[nodiscard]] bool deal_training(int worker);
  void send(int worker, Token token);
  void beat();

  // Between updates.
  void look_for_boundary();
  void advance();
  void begin_statistics();
  void finish_statistics();
  void begin_evaluation();
  void finish_evaluation();
  void abandon_evaluation();
  void evaluate_or_go_on();
  [[nodiscard]] bool save(bool best);
  void mark_best();
  void tell_keepers(TokenKind what);
  void go_on();
  [[nodiscard]] bool everyone(bool (*holds)(const Peer&)) const;
  void publish();
  [[nodiscard]] Aggregation& rules() const noexcept { return updates_.rules(); }
  [[nodiscard]] WorkerCounts counts(const Peer& peer) const;
  [[nodiscard]] double now() const { return service_.context().clock->now(); }

  Run& run_;
  Communicator& service_;
  const TaskLayout& layout_;
  ParameterTask& local_;
  const Parameters& kept_;
  AsyncProgress updates_;
  Outbox outbox_;                            // to the other parameter tasks
  std::deque<Peer> peers_;
  std::deque<Peer> former_;                  // replaced: messages may still be on their way into their memory
  std::int64_t replacements_left_;
  int hiring_ = -1;                          // the worker in whose place a process is being started; -1: none
  std::vector<Transfer> acks_in_;            // by parameter task
  std::vector<Ack> acks_;
  std::size_t losses_ = 0;
  Stage stage_ = Stage::training;

  std::int64_t entries_ = 0;
  std::vector<LogEntry> held_;               // accepted, and summed in the order of workers when the update is made

  Boundary due_;
  bool saved_ = false, best_ = false;        // between these two updates; `best_`: the state at hand is
  TokenKind residuals_ = TokenKind::save_residuals;          // what the workers are to do with them
  CheckpointWriter* writer_ = nullptr;
  static constexpr int kTodo = -1, kFinished = -2;
  std::vector<int> shares_;                  // of an evaluation: a worker's number, or one of these two
  std::vector<double> evaluation_;
  std::size_t statistics_ = 0;
  std::vector<float> averages_;

  double last_progress_ = 0, last_beat_ = 0, last_publish_ = 0;
};

}  // namespace cohort
