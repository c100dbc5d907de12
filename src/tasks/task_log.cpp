#include "tasks/task_log.hpp"

#include <algorithm>

namespace cohort {

TaskLog::TaskLog(const Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local)
    : run_(run), service_(service), layout_(layout), local_(local), outbox_(service.transport()) {
  acks_.resize(layout.tasks.size());
  for (std::size_t task = 1; task < layout.tasks.size(); ++task) {
    acks_in_.emplace_back(service.transport());
    acks_in_.back().receive(layout.tasks[task], task_tag::kAck, &acks_[task], sizeof(Ack));
  }
}

std::optional<std::pair<std::size_t, Ack>> TaskLog::acknowledged() {
  for (std::size_t task = 1; task < acks_.size(); ++task) {
    Transfer& in = acks_in_[task - 1];
    if (!in.done()) continue;
    const Ack ack = acks_[task];
    in.receive(layout_.tasks[task], task_tag::kAck, &acks_[task], sizeof(Ack));
    return std::pair(task, ack);
  }
  return {};
}

StepOutcome TaskLog::emit(LogEntry entry) {
  entry.number = ++entries_;
  for (std::size_t task = 1; task < layout_.tasks.size(); ++task) outbox_.send(layout_.tasks[task], task_tag::kLog, entry);
  // What the tasks then do together, this one must not begin before the others can have heard of it.
  const bool together = entry.kind != LogKind::gradient || (entry.applies != 0 && entry.in_steps != 0);
  for (std::size_t task = 1; together && task < layout_.tasks.size(); ++task) {
    const int rank = layout_.tasks[task];
    service_.wait(WaitStatus{.operation = "log", .peer = rank, .step = run_.state.step}, [&] { return outbox_.reached(rank); });
  }
  return local_.follow(entry);
}

/// A sum that is to have the same bits again takes its gradients in an order that does not depend on who came first.
StepOutcome TaskLog::emit_gradient(const LogEntry& entry) {
  if (!run_.plan.train.deterministic || entry.accepted == 0) return emit(entry);
  held_.push_back(entry);
  if (entry.applies == 0) return {};
  std::ranges::sort(held_, {}, &LogEntry::worker);
  for (LogEntry& each : held_) {
    const auto [worker, gradient] = std::pair(each.worker, each.gradient);
    each = entry;
    each.worker = worker;
    each.gradient = gradient;
    each.applies = &each == &held_.back() ? 1 : 0;
  }
  StepOutcome outcome;
  for (const LogEntry& each : held_) outcome = emit(each);
  held_.clear();
  return outcome;
}

}  // namespace cohort
