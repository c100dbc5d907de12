#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "run/run.hpp"
#include "run/setup.hpp"
#include "tasks/parameter_store.hpp"
#include "tasks/parameter_task.hpp"
#include "tasks/recruit.hpp"
#include "tasks/task_layout.hpp"
#include "tasks/token_task.hpp"

namespace cohort {

/// What a rank does as a parameter task: the task itself, the token task if that is here too, the checkpoints that they write, and
/// the lines to workers that are started later. One thread.
class TaskService {
 public:
  /// Collective over the parameter tasks' ranks, after the layout is known. `service`: an endpoint of all ranks; `tasks`: of the
  /// parameter tasks. `kept` is placed.
  TaskService(Run& run, Setup& setup, Communicator& service, Communicator& tasks, const TaskLayout& layout, int task, Parameters& kept);

  /// Until the run is over.
  void serve();
  [[nodiscard]] bool complete() const noexcept { return task_.complete(); }      ///< no rank was lost

 private:
  void begin_step();
  void replace(int worker);
  void look_for_recruit();
  void join(int worker);
  void give_up(int worker);
  void flush();

  Run& run_;
  Communicator& service_;
  Communicator& tasks_;
  const TaskLayout& layout_;
  bool dedicated_;
  std::int64_t step_ = -1;
  ThreadPool pool_;
  Parameters& kept_;
  ParameterStore store_;
  std::optional<Recruit> recruit_;             // a worker that is being started
  double recruit_due_ = 0;                     // when it is given up
  std::deque<Communicator> lines_;             // to workers that were started later; whoever talks over them goes before
  ParameterTask task_;
  std::array<Stateful*, 2> parts_;
  std::optional<TokenTask> token_;
  std::optional<CheckpointWriter> writer_;
};

}  // namespace cohort
