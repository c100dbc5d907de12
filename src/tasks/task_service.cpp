#include "tasks/task_service.hpp"

#include <fmt/core.h>

#include "tasks/introduction.hpp"

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
  writer_.emplace(run.out.directory.checkpoints(), run.plan.checkpoint.keep, run.plan.config_text, service.context().log, tasks.size() > 1 ? &tasks : nullptr,
                  service.rank_activity());
  task_.on_save([this](std::int64_t step, bool best) {
    writer_->close();
    if (run_.keeps_all()) writer_->keep_all();
    writer_->save(parts_, step, best);
  });
  task_.on_replace([this](LogKind kind, int worker) {
    if (kind == LogKind::replace) replace(worker);
    else if (kind == LogKind::join) join(worker);
    else give_up(worker);
  });
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
    if (token_) look_for_recruit();
    begin_step();
    writer_->poll();
    if (moved) backoff.reset();
    else backoff.pause();
  }
  service_.activity().clear();               // what it waited for last is no news: that rank may have left by now
  flush();
  writer_->close();
  run_.summary.memory.parameters = kept_.values().bytes();
  run_.summary.memory.slots = kept_.slot_bytes();
  run_.summary.memory.communication += task_.bytes();
  if (!token_) return;
  run_.out.progress.note("\n" + token_->table());
  for (int worker = 0; worker < run_.course.replicas(); ++worker) run_.result.workers.push_back(token_->counts(worker));
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
  const Membership& membership = *service_.membership();
  service_.wait(WaitStatus{.operation = "news of a loss", .peer = layout_.tasks.front()}, [&] { return membership.lost(rank); });
  recruit_.emplace(tasks_, rank, Introduction(run_, kept_, pool_.threads()));
  recruit_due_ = service_.context().clock->now() + run_.plan.cluster.replace_timeout;
}

/// The token task's: it decides for all.
void TaskService::look_for_recruit() {
  if (!recruit_) return;
  const Recruit::State state = recruit_->state();
  const bool late = state == Recruit::State::starting && service_.context().clock->now() > recruit_due_;
  if (state == Recruit::State::there) return token_->hire();
  if (state == Recruit::State::starting && !late) return;
  const std::string why = late ? fmt::format("the new process has not come to work within {:g} s (cluster.replace_timeout): it has died or was stopped "
                                             "while it started, most likely", run_.plan.cluster.replace_timeout)
                               : recruit_->error();
  service_.context().log.warning(fmt::format("rank {} is not replaced: {}; the others go on without it", token_->hiring_rank(), why));
  token_->do_without(late ? tasks_.transport().groups_wait() : recruit_->refused());
}

void TaskService::join(int worker) {
  const int rank = layout_.workers[static_cast<std::size_t>(worker)];
  service_.wait(WaitStatus{.operation = "a new process", .peer = rank}, [&] { return recruit_->state() != Recruit::State::starting; });
  Communicator& joined = lines_.emplace_back(recruit_->take());
  recruit_.reset();
  task_.replace(worker, joined);
  if (!token_) return;
  token_->replace(worker, joined);
  service_.context().log.warning(fmt::format("rank {} is replaced by a new process on {}", rank, service_.membership()->changes(0).back().text));
}

void TaskService::give_up(int worker) {
  recruit_.reset();
  service_.membership()->lose(layout_.workers[static_cast<std::size_t>(worker)], "its replacement did not come to work");
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
