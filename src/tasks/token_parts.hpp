#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "run/run.hpp"
#include "tasks/async_progress.hpp"
#include "tasks/task_layout.hpp"
#include "tasks/task_log.hpp"
#include "tasks/token_work.hpp"
#include "tasks/worker_places.hpp"
#include "tasks/worker_roster.hpp"

namespace cohort {

/// What the classes of a token task share. One thread.
struct TokenParts {
  /// `statistics`: elements of all running statistics of a worker; `host`: of `work`.
  TokenParts(Run& its_run, Communicator& its_service, const TaskLayout& its_layout, ParameterTask& local, std::vector<std::string> metrics,
             std::size_t statistics, TokenWorkHost& host)
      : run(its_run), service(its_service), layout(its_layout), progress(run, *service.context().clock, std::move(metrics)),
        log(run, service, layout, local), workers(service, layout.workers, statistics),
        work(host, workers.size(),
             {.evaluation_sums = progress.evaluation_sums(), .statistics = statistics > 0, .residuals = layout.feeds_back}),
        places(progress, work) {}

  [[nodiscard]] Aggregation& rules() noexcept { return progress.plan().rules(); }
  [[nodiscard]] double now() const { return service.context().clock->now(); }
  /// The run goes on: whoever waits does not wait in vain.
  void moves() { last_move = now(); }
  void begin_phase();

  Run& run;
  Communicator& service;
  const TaskLayout& layout;
  AsyncProgress progress;
  TaskLog log;
  WorkerRoster workers;
  TokenWork work;
  WorkerPlaces places;
  std::vector<float> averages;               ///< of the workers' statistics
  std::size_t losses = 0;                    ///< so many are known
  double last_move = 0;
};

}  // namespace cohort
