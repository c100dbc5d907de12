#include "tasks/worker_places.hpp"

namespace cohort {

WorkerPlaces::WorkerPlaces(AsyncProgress& progress, TokenWork& work) : progress_(progress), work_(work), histories_(work.duties().size()) {}

void WorkerPlaces::begin_phase() {
  const int wanted = progress_.plan().trains();
  int index = 0;
  for (int worker = 0; worker < static_cast<int>(histories_.size()) && index < wanted; ++worker) {
    if (work_.of(worker).works()) work_.of(worker).index = index++;
  }
  for (; index < wanted; ++index) progress_.plan().rules().leave(index);
}

void WorkerPlaces::end_phase() {
  for (int worker = 0; worker < static_cast<int>(histories_.size()); ++worker) count_earlier(worker);
}

void WorkerPlaces::give(int worker) {
  for (int index = 0; index < progress_.plan().trains(); ++index) {
    if (!progress_.plan().rules().is_present(index)) return take(worker, index);
  }
}

void WorkerPlaces::leave(int worker) {
  const int index = work_.of(worker).index;
  if (index < 0) return;
  count_earlier(worker);
  progress_.plan().rules().leave(index);
  for (int other = 0; other < static_cast<int>(histories_.size()); ++other) {
    const WorkerDuty& duty = work_.of(other);
    if (duty.works() && duty.index < 0 && !duty.ended) return take(other, index);
  }
}

void WorkerPlaces::take(int worker, int index) {
  progress_.plan().rules().join(index);
  work_.of(worker).index = index;
  history(worker).others = progress_.plan().rules().counts()[static_cast<std::size_t>(index)];
}

/// It trains no more by the rules that hold now.
void WorkerPlaces::count_earlier(int worker) {
  history(worker) = {.before = counts(worker), .others = {}};
  work_.of(worker).index = -1;
}

WorkerCounts WorkerPlaces::counts(int worker) const {
  const History& mine = histories_[static_cast<std::size_t>(worker)];
  WorkerCounts all = mine.before;
  const int index = work_.duties()[static_cast<std::size_t>(worker)].index;
  if (index < 0) return all;
  const WorkerCounts& now = progress_.plan().rules().counts()[static_cast<std::size_t>(index)];
  all.applied += now.applied - mine.others.applied;
  all.dropped += now.dropped - mine.others.dropped;
  all.waited += now.waited - mine.others.waited;
  return all;
}

}  // namespace cohort
