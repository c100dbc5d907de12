#include "tasks/token_boundary.hpp"

#include <fmt/core.h>

namespace cohort {

void TokenParts::begin_phase() {
  places.begin_phase();
  run.out.progress.set_team(run.plan.phases.phases().size() > 1 ? fmt::format("  {} workers", progress.plan().trains()) : "");
}

void TokenBoundary::average_statistics() {
  StatisticsMean mean(statistics_.elements());
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    const WorkerDuty& duty = parts_.work.of(worker);
    if (!duty.lost && duty.giving == Giving::given && duty.index >= 0) mean.add(parts_.workers[worker].channel.statistics());
  }
  if (mean.rows() == 0) return;
  parts_.averages = mean.mean();
  for (TokenPeer& peer : parts_.workers) peer.knows_averages = false;
  statistics_.write(parts_.averages);
}

bool TokenBoundary::save(bool best) {
  if (!parts_.progress.may_save(best)) return false;
  parts_.log.emit({.kind = LogKind::save, .best = best ? 1 : 0, .step = parts_.run.state.step});
  return true;
}

bool TokenBoundary::needs_nobody() {
  parts_.moves();
  return writer_->needs_nobody();
}

void TokenBoundary::pass(bool end) {
  parts_.moves();
  if (end || !parts_.progress.plan().phase_over()) return;
  parts_.places.end_phase();
  parts_.progress.enter_phase();
  parts_.begin_phase();
}

}  // namespace cohort
