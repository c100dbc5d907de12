#include "train/tasks/task_service.hpp"

#include <fmt/core.h>

#include "train/tasks/introduction.hpp"

namespace cohort {
namespace {

constexpr double kFlush = 5;                 // seconds for the last messages, which everybody waits for

StoreOptions options_of(const Run& run, const TaskLayout& layout) {
  const int workers = static_cast<int>(layout.workers.size());
  return {.workers = workers, .clip_norm = run.plan.train.clip_norm, .compensation = run.phase().aggregate(workers)->compensation()};
}

}  // namespace

TaskService::TaskService(Run& run, Setup& setup, Communicator& service, Communicator& tasks, const TaskLayout& layout, int task, Parameters& kept)
    : run_(run), service_(service), tasks_(tasks), layout_(layout), dedicated_(setup.cluster.dedicated()),
      pool_(setup.cluster.dedicated() ? setup.replica->session().pool().threads() : 1), kept_(kept),
      store_(kept, *setup.optimizer, pool_, tasks, options_of(run, layout)), task_(service, layout, task, store_), parts_{&run.state, &kept} {
  store_.start_at(run.state.step);
  writer_.emplace(run.directory.checkpoints(), run.plan.checkpoint.keep, run.plan.config_text, service.context().log, tasks.size() > 1 ? &tasks : nullptr,
                  service.rank_activity());
  task_.on_save([this](std::int64_t step, bool best) {
    writer_->close();
    if (run_.keeps_all()) writer_->keep_all();
    writer_->save(parts_, step, best);
  });
  task_.on_replace([this](int worker) { replace(worker); });
  if (task != 0) return;
  token_.emplace(run, service, layout, task_, kept, setup.replica->metric_names());
  token_->save_with(*writer_);
  task_.on_arrival([this](int worker, std::int64_t gradient) { token_->arrived(worker, gradient); });
}

void TaskService::serve() {
  Backoff backoff(*service_.context().clock);
  while (!task_.ended()) {
    service_.cancel_flag()->throw_if_set();
    bool moved = task_.turn();
    if (token_) moved = token_->turn() || moved;
    begin_step();
    writer_->poll();
    if (moved) backoff.reset();
    else backoff.pause();
  }
  flush();
  writer_->close();
  run_.summary.memory.parameters = kept_.value_bytes();
  run_.summary.memory.slots = kept_.slot_bytes();
  run_.summary.memory.communication += task_.bytes();
  if (!token_) return;
  run_.progress.note("\n" + token_->table());
  for (int worker = 0; worker < run_.replicas; ++worker) run_.result.workers.push_back(token_->counts(worker));
  run_.result.lost = service_.membership()->losses();
}

/// Where this rank has no worker that does: a step begins with what has been applied.
void TaskService::begin_step() {
  if (!dedicated_ || store_.version() == step_) return;
  step_ = store_.version();
  service_.begin_step(step_);
}

/// Collective over the tasks, which all get here by their log.
void TaskService::replace(int worker) {
  const int rank = layout_.workers[static_cast<std::size_t>(worker)];
  std::optional<Communicator> line = start_in_place_of(rank);
  if (tasks_.all_reduce(line ? std::int64_t{1} : std::int64_t{0}, Reduce::min) == 0) {
    service_.membership()->lose(rank, "its replacement did not come to work");
    if (token_) token_->cannot_replace();
    return;
  }
  Communicator& joined = lines_.emplace_back(std::move(*line));
  task_.replace(worker, joined);
  if (!token_) return;
  token_->replace(worker, joined);
  service_.context().log.warning(fmt::format("rank {} is replaced by a new process on {}", rank, service_.membership()->changes(0).back().text));
}

/// Nothing where that cannot be done.
std::optional<Communicator> TaskService::start_in_place_of(int rank) {
  const Membership& membership = *service_.membership();
  service_.wait(WaitStatus{.operation = "news of a loss", .peer = layout_.tasks.front()}, [&] { return membership.lost(rank); });
  try {
    Communicator line = tasks_.spawn(rank);
    Introduction(run_, kept_, pool_.threads()).tell(line);
    return line;
  } catch (const Error& error) {
    if (error.code() != Code::unavailable && error.code() != Code::deadline_exceeded) throw;
    if (token_) service_.context().log.warning(fmt::format("rank {} is not replaced: {}; the others go on without it", rank, error.what()));
    return {};
  }
}

void TaskService::flush() {
  Backoff backoff(*service_.context().clock);
  const double until = service_.context().clock->now() + kFlush;
  while (service_.context().clock->now() < until) {
    const bool mine = task_.flushed(), tokens = !token_ || token_->flushed();
    if (mine && tokens) return;
    backoff.pause();
  }
}

}  // namespace cohort
