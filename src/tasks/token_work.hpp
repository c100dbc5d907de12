#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "run/boundary_policy.hpp"
#include "tasks/messages.hpp"

namespace cohort {

/// How far a worker is with what it is asked for once at a boundary: its statistics, or that its residuals are saved.
enum class Giving : std::uint8_t { nothing, asked, sending, given };

/// One worker, as far as it matters what it is to do.
struct WorkerDuty {
  bool lost = false;
  bool ready = true;                         ///< false: a new one in a lost one's place, which has not been heard of
  bool idle = false;                         ///< waits for work
  bool evaluates = false, ended = false;
  int index = -1;                            ///< in the rules; -1: it does not train now
  int share = 0;                             ///< of the evaluation that it is at
  Giving giving = Giving::nothing;

  [[nodiscard]] bool works() const noexcept { return !lost && ready; }
};

/// What is done on behalf of a TokenWork, by whoever has messages, tasks and files.
class TokenWorkHost {
 public:
  virtual ~TokenWorkHost() = default;
  /// What is due where the run is now.
  [[nodiscard]] virtual Boundary boundary() const = 0;
  /// No gradient is awaited before the boundary.
  [[nodiscard]] virtual bool is_drained() = 0;
  /// Those that have been given, of workers that train.
  virtual void average_statistics() = 0;
  /// False: the state is not to be saved.
  [[nodiscard]] virtual bool save(bool best) = 0;
  virtual void mark_best() = 0;
  /// What was saved will be whole, whatever becomes of the workers.
  [[nodiscard]] virtual bool needs_nobody() = 0;
  /// Sums over all shares. True if the state at hand is the best so far.
  [[nodiscard]] virtual bool take_evaluation(std::span<const double> sums) = 0;
  /// A boundary has been passed; training goes on or, if `end`, does not.
  virtual void pass(bool end) = 0;
  virtual void end() = 0;
};

/// What workers are to do between updates, and when: statistics are averaged, the state is saved, residuals beside it, then it is
/// validated by all, share by share, and training goes on. Workers may be late or lost at any time. No messages, no clock.
class TokenWork {
 public:
  enum class Stage : std::uint8_t { training, draining, statistics, saving, publishing, evaluating, ending, ended };
  struct Options {
    std::size_t evaluation_sums = 2;         ///< samples, loss, metrics
    bool statistics = false;                 ///< workers have some
    bool residuals = false;                  ///< so that they save them beside a checkpoint
  };
  /// What tokens say of the run.
  struct Facts {
    std::int64_t version = 0, step = 0;
    bool complete = true;                    ///< no worker was lost
  };

  TokenWork(TokenWorkHost& host, int workers, const Options& options);

  /// Once, before anything else. `over`: there is nothing to train; `at_its_start`: nor ever was; `validates`: the state was saved
  /// before its validation.
  void start(bool over, bool at_its_start, bool validates);
  [[nodiscard]] WorkerDuty& of(int worker) { return duties_[static_cast<std::size_t>(worker)]; }
  [[nodiscard]] const std::vector<WorkerDuty>& duties() const noexcept { return duties_; }
  [[nodiscard]] Stage stage() const noexcept { return stage_; }

  /// After an update, or where the next gradient would be of another epoch: is there anything to do before training goes on?
  void look_for_boundary();
  /// Moves on as far as it can. `stopped`: somebody has asked the run to end; `awaits`: a worker is on its way, so it can't end.
  void advance(bool stopped, bool awaits);
  /// For a worker that is idle and does not train: what it is to do, if anything. It is busy then.
  [[nodiscard]] std::optional<Token> next(int worker, const Facts& now);

  void take_evaluation(int worker, const Done& done);
  /// What it was at is free for others.
  void lose(int worker);

 private:
  [[nodiscard]] bool everyone(bool (*holds)(const WorkerDuty&)) const;
  void begin_statistics();
  void finish_statistics();
  void evaluate_or_go_on();
  void begin_evaluation();
  void finish_evaluation();
  void abandon_evaluation();
  [[nodiscard]] bool save(bool best);
  void tell_keepers(TokenKind what);
  void go_on();

  TokenWorkHost& host_;
  Options options_;
  std::vector<WorkerDuty> duties_;           // by worker
  Stage stage_ = Stage::training;
  Boundary due_;
  bool saved_ = false, best_ = false;        // between these two updates; `best_`: the state at hand is
  TokenKind residuals_ = TokenKind::save_residuals;          // what the workers are to do with them
  std::vector<int> shares_;                  // of an evaluation: a worker's number, or one of the two in the .cpp
  std::vector<double> evaluation_;
};

}  // namespace cohort
