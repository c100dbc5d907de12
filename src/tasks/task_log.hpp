#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "run/run.hpp"
#include "tasks/messages.hpp"
#include "tasks/outbox.hpp"
#include "tasks/parameter_task.hpp"
#include "tasks/task_layout.hpp"

namespace cohort {

/// The token task's line to the parameter tasks: one log, which all of them follow in its order, and what they acknowledge.
class TaskLog {
 public:
  /// `local`: the task of this rank, which follows by a call.
  TaskLog(const Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local);

  /// The next entry. What came of it here.
  StepOutcome emit(LogEntry entry);
  /// One about a gradient. Where sums are to have the same bits again (train.deterministic), those of an update are held back until it
  /// is made.
  StepOutcome emit_gradient(const LogEntry& entry);
  /// Gradients are held back.
  [[nodiscard]] bool holds() const noexcept { return !held_.empty(); }

  /// The next acknowledgement that has come: of this task.
  [[nodiscard]] std::optional<std::pair<std::size_t, Ack>> acknowledged();
  /// True if everything has been taken.
  bool progress() { return outbox_.progress(); }

 private:
  const Run& run_;
  Communicator& service_;
  const TaskLayout& layout_;
  ParameterTask& local_;
  Outbox outbox_;                            // to the other parameter tasks
  std::vector<Transfer> acks_in_;            // by parameter task, but for the first
  std::vector<Ack> acks_;
  std::int64_t entries_ = 0;
  std::vector<LogEntry> held_;               // accepted, and summed in the order of workers when the update is made
};

}  // namespace cohort
