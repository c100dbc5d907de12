#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "tasks/messages.hpp"
#include "tasks/outbox.hpp"
#include "tasks/parameter_store.hpp"
#include "tasks/task_layout.hpp"

namespace cohort {

/// One parameter task: takes gradients from the workers, does with them what the token task's log says, and gives out values.
/// Never waits for a worker; memory for one gradient and one answer per worker is all that late ones can take. A worker that is lost may be replaced. One thread.
class ParameterTask {
 public:
  /// `service`: an endpoint of all ranks. `task`: which one this is.
  ParameterTask(Communicator& service, const TaskLayout& layout, int task, ParameterStore& store);

  /// Called when a gradient has arrived here. Without it, the token task is told by a message.
  void on_arrival(std::function<void(int worker, std::int64_t gradient)> arrival) { arrival_ = std::move(arrival); }
  /// Called when the log says that the state is to be saved.
  void on_save(std::function<void(std::int64_t step, bool best)> save) { save_ = std::move(save); }
  /// Called when the log says that a lost worker is to be replaced, has been, or cannot be. Collective over the tasks.
  void on_replace(std::function<void(LogKind kind, int worker)> replace) { replace_ = std::move(replace); }

  /// Moves messages on; never blocks. True if anything happened.
  bool turn();
  /// The next entry of the log. On the token task's rank it comes by this call, elsewhere by a message.
  StepOutcome follow(const LogEntry& entry);
  /// From here on a worker is the last rank of `line`, and begins anew.
  void replace(int worker, Communicator& line);
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  [[nodiscard]] bool complete() const noexcept { return complete_; }      ///< no rank was lost before the end
  [[nodiscard]] bool flushed() { return outbox_.progress(); }
  [[nodiscard]] std::int64_t bytes() const noexcept;
  [[nodiscard]] ParameterStore& store() noexcept { return store_; }

 private:
  enum class Stage : std::uint8_t { header, pieces, arrived };
  /// What answers are read from, until the last reader has it.
  struct Snapshot {
    std::int64_t version = -1;
    int readers = 0;
    std::vector<std::byte> wire;               // encoded values
    Tensor values;                             // or, of a version that is over, values as they were
    const std::byte* data = nullptr;
  };
  struct Peer {                                // a worker
    int rank = 0;                              // in the job
    int at = 0;                                // in the group that it is reached in
    std::int32_t life = 0;
    bool lost = false;
    Stage stage = Stage::header;
    std::int64_t gradients = 0;                // number of the last one
    Transfer header_in, pull_in;
    PushHeader header;
    std::vector<PieceHeader> piece_headers, value_headers;
    std::vector<Transfer> pieces_in, values_out;          // header and floats of each piece in turn
    std::size_t arrived = 0, taken = 0;        // of those
    std::vector<std::byte> wire;
    PullRequest pull;
    std::int64_t pulls = 0;
    bool wants = false;
    ValuesHeader answer;
    Snapshot* reads = nullptr;
  };

  std::unique_ptr<Peer> meet(Communicator& line, int at, int rank);
  [[nodiscard]] Peer& peer_of(int worker) { return *peers_[static_cast<std::size_t>(worker)]; }
  bool serve(int worker);
  bool receive(int worker);
  void expect_pieces(Peer& peer);
  void arrived(int worker);
  bool answer(int worker);
  Snapshot& snapshot();
  void finish_answer(Peer& peer);
  void leave_values_to_readers();
  static void check_arrived(const Peer& peer, const LogEntry& entry);
  void free(int worker, std::int64_t gradient);
  StepOutcome follow_gradient(const LogEntry& entry);
  bool read_log();
  void forget_lost();
  void forget(Peer& peer);
  [[nodiscard]] const WireLayout& layout_of(const Peer& peer) const;

  Communicator& service_;
  const TaskLayout& layout_;
  int task_;
  ParameterStore& store_;
  Outbox outbox_;
  std::deque<Snapshot> snapshots_;             // outlive the peers, whose transfers read them to the end
  std::vector<std::unique_ptr<Peer>> peers_;   // by worker
  std::vector<std::unique_ptr<Peer>> former_;  // replaced: messages may still be on their way into their memory
  Snapshot* current_ = nullptr;                // reads the values themselves, of this version
  std::function<void(int, std::int64_t)> arrival_;
  std::function<void(std::int64_t, bool)> save_;
  std::function<void(LogKind, int)> replace_;
  Transfer log_in_;
  LogEntry log_;
  std::int64_t entries_ = 0;
  std::size_t losses_ = 0;
  bool ended_ = false, complete_ = true;
};

}  // namespace cohort
