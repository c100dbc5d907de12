#include "cohort/run/aggregation.hpp"

#include <algorithm>
#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {

Aggregation::Aggregation(int workers) : workers_(static_cast<std::size_t>(workers)), counts_(workers_.size()) {
  check(workers >= 1, Code::invalid_argument, "parameter tasks need a worker at least");
}

std::optional<int> Aggregation::begin(int worker) {
  Worker& mine = workers_[static_cast<std::size_t>(worker)];
  check(!mine.busy, Code::internal, "worker " + std::to_string(worker) + " begins a gradient before the last one is judged");
  if (!mine.present) return {};
  const std::optional<int> share = may_begin(worker);
  if (!share && !mine.held) ++counts_[static_cast<std::size_t>(worker)].waited;
  mine.held = !share;
  mine.busy = share.has_value();
  return share;
}

Judgement Aggregation::judge(int worker, std::int64_t read, bool finite) {
  Worker& mine = workers_[static_cast<std::size_t>(worker)];
  check(mine.busy, Code::internal, "a gradient of worker " + std::to_string(worker) + ", which has begun none");
  const std::int64_t late = version_ - read;
  check(late >= 0, Code::internal, "a gradient of parameters that do not exist yet");
  mine.busy = false;
  ++mine.clock;
  if (staleness_.size() <= static_cast<std::size_t>(late)) staleness_.resize(static_cast<std::size_t>(late) + 1, 0);
  ++staleness_[static_cast<std::size_t>(late)];
  Judgement judgement;
  if (finite) judgement = weigh(worker, late);
  else gone(worker);
  WorkerCounts& counts = counts_[static_cast<std::size_t>(worker)];
  ++(judgement.accepted ? counts.applied : counts.dropped);
  return judgement;
}

void Aggregation::leave(int worker) {
  Worker& mine = workers_[static_cast<std::size_t>(worker)];
  if (!mine.present) return;
  mine.present = false;
  if (std::exchange(mine.busy, false)) gone(worker);
}

void Aggregation::join(int worker) {
  Worker& mine = workers_[static_cast<std::size_t>(worker)];
  if (mine.present) return;
  mine = {};
  // It begins where the slowest is: nobody waits for work that it has not been there for.
  std::int64_t slowest = -1;
  for (const Worker& other : workers_) {
    if (&other != &mine && other.present && (slowest < 0 || other.clock < slowest)) slowest = other.clock;
  }
  mine.clock = std::max<std::int64_t>(slowest, 0);
}

int Aggregation::present() const noexcept {
  return static_cast<int>(std::ranges::count_if(workers_, [](const Worker& worker) { return worker.present; }));
}

int Aggregation::under_way() const noexcept {
  return static_cast<int>(std::ranges::count_if(workers_, [](const Worker& worker) { return worker.busy; }));
}

}  // namespace cohort
