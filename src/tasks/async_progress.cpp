#include "tasks/async_progress.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace cohort {

void log_counts(const MetricSink& metrics, std::size_t worker, const WorkerCounts& counts) {
  const std::string name = fmt::format("workers/{}/", worker);
  metrics.log(name + "applied", static_cast<double>(counts.applied));
  metrics.log(name + "dropped", static_cast<double>(counts.dropped));
  metrics.log(name + "waited", static_cast<double>(counts.waited));
}

AsyncProgress::AsyncProgress(Run& run, const Clock& clock, std::vector<std::string> metrics)
    : run_(run), clock_(clock), metrics_(std::move(metrics)), plan_(run) {
  check(metrics_.size() <= kMostMetrics, Code::invalid_argument, fmt::format("a model may report at most {} metrics", kMostMetrics));
  saved_step_ = run_.state.step;
  speed_.begin(clock_.now(), static_cast<double>(run_.state.step));
}

void AsyncProgress::enter_phase() {
  staleness_.add(plan_.rules());
  plan_.enter_phase();
}

// Verdicts ---------------------------------------------------------------------------------------------------------------------

LogEntry AsyncProgress::judge(int index, const Done& news) {
  LogEntry entry{.kind = LogKind::gradient, .gradient = news.gradient};
  const bool in_steps = plan_.rules().in_steps();
  // Where an update averages a step's gradients it is measured as a whole, and skipped as a whole.
  const Judgement judgement = plan_.rules().judge(index, news.read, std::isfinite(news.norm) || in_steps);
  entry.accepted = judgement.accepted ? 1 : 0;
  entry.applies = judgement.applies ? 1 : 0;
  entry.weight = judgement.weight;
  const double clip = run_.plan.train.clip_norm;
  if (!in_steps && clip > 0 && news.norm > clip) entry.weight *= clip / news.norm;
  if (judgement.accepted) {
    for (std::size_t i = 0; i < Done::kSums; ++i) sums_[i] += news.sums[i];
    samples_ += news.samples;
    plan_.accepted();
  }
  if (!judgement.applies) return entry;
  rate_ = run_.course.rate(plan_.length(), run_.state.position);
  entry.rate = rate_ * judgement.rate_factor;
  entry.previous_rate = (run_.state.applied > 0 ? run_.state.previous_rate : rate_) * judgement.rate_factor;
  entry.sum_scale = judgement.sum_scale;
  entry.applied = run_.state.applied;
  entry.in_steps = in_steps ? 1 : 0;
  return entry;
}

bool AsyncProgress::followed(const LogEntry& entry, const Done& news, const StepOutcome& outcome) {
  if (entry.applies == 0) {
    if (!std::isfinite(news.norm) && !plan_.rules().in_steps()) {
      run_.skip(fmt::format("a gradient of worker {} is not finite, it is dropped", entry.worker), false);
      run_.out.end_step();
    }
    return false;
  }
  plan_.made();
  if (outcome.applied) run_.applied(rate_);
  norm_ = plan_.rules().in_steps() ? outcome.gradient_norm : news.norm;
  plan_.rules().applied();
  ++run_.state.step;
  const std::int64_t epoch = run_.state.position.epoch;
  run_.state.samples += samples_;
  speed_.add(samples_);
  if (!outcome.applied) run_.skip("a gradient is not finite, the update is skipped by all parameter tasks");
  run_.result.loss = sums_[0] / std::max<double>(static_cast<double>(samples_), 1);
  run_.out.progress.step(run_.state.step, epoch, samples_, run_.result.loss);
  if (run_.course.is_logged(run_.state.step)) log_step(entry.rate);
  run_.out.end_step();
  sums_.fill(0);
  samples_ = 0;
  plan_.step_on();
  return true;
}

// What people are told ---------------------------------------------------------------------------------------------------------

void AsyncProgress::log_step(double rate) {
  const double samples = std::max<double>(static_cast<double>(samples_), 1);
  std::array<double, Done::kSums> means{};
  for (std::size_t i = 0; i < means.size(); ++i) means[i] = sums_[i] / samples;
  run_.out.metrics.log_step({.loss = means[0], .names = metrics_, .values = std::span(means).subspan(1), .rate = rate, .norm = norm_,
                             .replicas = static_cast<double>(plan_.rules().present()), .batch = static_cast<double>(plan_.length().update_samples)});
  speed_.log(run_.out.metrics, clock_.now(), "updates_per_second", static_cast<double>(run_.state.step));
  staleness_.log(run_.out.metrics, plan_.rules());
  if (log_) log_();
}

std::string AsyncProgress::table(std::span<const WorkerLine> workers) const {
  std::string text = "worker   rank    applied   dropped    waited\n";
  for (std::size_t worker = 0; worker < workers.size(); ++worker) {
    const auto& [rank, counts, lost, replaced] = workers[worker];
    const char* const fate = lost ? "   lost" : replaced ? "   replaced" : "";
    text += fmt::format("{:>6} {:>6} {:>10} {:>9} {:>9}{}\n", worker, rank, counts.applied, counts.dropped, counts.waited, fate);
  }
  return text + staleness_.text(plan_.rules());
}

// Between updates --------------------------------------------------------------------------------------------------------------

Boundary AsyncProgress::boundary() const { return run_.policy.due(run_.point(saved_step_), plan_.phase_end()); }

bool AsyncProgress::take_evaluation(std::span<const double> sums) {
  Evaluation result{.loss = sums[1] / sums[0], .metrics = {}, .samples = static_cast<std::int64_t>(sums[0])};
  for (std::size_t m = 0; m < metrics_.size(); ++m) result.metrics.emplace_back(metrics_[m], sums[2 + m] / sums[0]);
  return run_.take_validation(result);
}

bool AsyncProgress::may_save(bool validated) {
  saved_step_ = run_.state.step;
  if (!run_.worth_saving(validated)) return false;
  run_.state.validation_due = !validated && run_.policy.validates(run_.point()) ? 1 : 0;
  run_.out.saved = true;
  staleness_.log(run_.out.metrics, plan_.rules());
  staleness_.log_each(run_.out.metrics, plan_.rules());
  run_.out.metrics.flush();
  return true;
}

}  // namespace cohort
