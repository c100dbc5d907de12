#include "tasks/async_progress.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace cohort {

AsyncProgress::AsyncProgress(Run& run, const Clock& clock, std::vector<std::string> metrics) : run_(run), clock_(clock), metrics_(std::move(metrics)) {
  check(metrics_.size() <= kMostMetrics, Code::invalid_argument, fmt::format("a model may report at most {} metrics", kMostMetrics));
  enter_phase();
  items_ = run_.state.samples / item_samples_;
  saved_step_ = run_.state.step;
  speed_.begin(clock_.now(), static_cast<double>(run_.state.step));
}

void AsyncProgress::enter_phase() {
  staleness_ = staleness();
  phase_ = run_.plan.phases.at(run_.state.position.epoch);
  const TrainingPhase& phase = run_.plan.phases.phases()[phase_];
  trains_ = phase.active(run_.course.replicas());
  batches_ = phase.batches(run_.plan.pipeline, run_.course.replicas());
  length_ = run_.course.length(phase);
  rules_ = phase.aggregate(trains_);
  rules_->start_at(run_.state.step);
  item_samples_ = rules_->in_steps() ? length_.update_samples : batches_.pipeline.batch * run_.plan.train.accumulate;
  pending_ = 0;
}

bool AsyncProgress::phase_over() const { return run_.state.position.epoch >= run_.plan.phases.phases()[phase_].end; }

std::int64_t AsyncProgress::samples_left() const {
  const std::int64_t all = run_.plan.training_data->size(), batch = BatchPlan(batches_.pipeline, rules_->in_steps() ? batches_.ways : 1).global_batch();
  return (batches_.pipeline.drop_last ? all / batch * batch : all) - run_.state.position.sample;
}

Position AsyncProgress::advanced(const Position& from, std::int64_t samples) const {
  return samples >= samples_left() ? Position{from.epoch + 1, 0} : Position{from.epoch, from.sample + samples};
}

bool AsyncProgress::wants_more() const {
  const std::int64_t most = run_.plan.train.max_steps;
  if (rules_->in_steps() || most == 0) return true;
  return (most - run_.state.step) * rules_->per_update() > pending_ + rules_->under_way();
}

Token AsyncProgress::training(int share) {
  Token token{.kind = TokenKind::train, .phase = static_cast<std::int32_t>(phase_), .version = rules_->version(), .position = run_.state.position,
            .samples = std::min(item_samples_, samples_left()), .step = run_.state.step, .share = share, .shares = rules_->shares()};
  token.in_steps = rules_->in_steps() ? 1 : 0;
  if (rules_->in_steps()) return token;
  token.step = items_++;
  run_.state.position = advanced(run_.state.position, token.samples);
  return token;
}

// Verdicts ---------------------------------------------------------------------------------------------------------------------

LogEntry AsyncProgress::judge(int index, const Done& news) {
  LogEntry entry{.kind = LogKind::gradient, .gradient = news.gradient};
  const bool in_steps = rules_->in_steps();
  // Where an update averages a step's gradients it is measured as a whole, and skipped as a whole.
  const Judgement judgement = rules_->judge(index, news.read, std::isfinite(news.norm) || in_steps);
  entry.accepted = judgement.accepted ? 1 : 0;
  entry.applies = judgement.applies ? 1 : 0;
  entry.weight = judgement.weight;
  const double clip = run_.plan.train.clip_norm;
  if (!in_steps && clip > 0 && news.norm > clip) entry.weight *= clip / news.norm;
  if (judgement.accepted) {
    for (std::size_t i = 0; i < Done::kSums; ++i) words_[i] += news.sums[i];
    word_samples_ += news.samples;
    ++pending_;
  }
  if (!judgement.applies) return entry;
  rate_ = run_.course.rate(length_, run_.state.position);
  entry.rate = rate_ * judgement.rate_factor;
  entry.previous_rate = (run_.state.applied > 0 ? run_.state.previous_rate : rate_) * judgement.rate_factor;
  entry.sum_scale = judgement.sum_scale;
  entry.applied = run_.state.applied;
  entry.in_steps = in_steps ? 1 : 0;
  return entry;
}

bool AsyncProgress::followed(const LogEntry& entry, const Done& news, const StepOutcome& outcome) {
  if (entry.applies == 0) {
    if (!std::isfinite(news.norm) && !rules_->in_steps()) {
      run_.skip(fmt::format("a gradient of worker {} is not finite, it is dropped", entry.worker), false);
      run_.out.end_step();
    }
    return false;
  }
  pending_ = 0;
  if (outcome.applied) run_.applied(rate_);
  norm_ = rules_->in_steps() ? outcome.gradient_norm : news.norm;
  rules_->applied();
  ++run_.state.step;
  const std::int64_t epoch = run_.state.position.epoch;
  run_.state.samples += word_samples_;
  speed_.add(word_samples_);
  if (!outcome.applied) run_.skip("a gradient is not finite, the update is skipped by all parameter tasks");
  run_.result.loss = words_[0] / std::max<double>(static_cast<double>(word_samples_), 1);
  run_.out.progress.step(run_.state.step, epoch, word_samples_, run_.result.loss);
  if (run_.course.is_logged(run_.state.step)) log_step(entry.rate);
  run_.out.end_step();
  words_.fill(0);
  word_samples_ = 0;
  if (rules_->in_steps()) run_.state.position = advanced(run_.state.position, std::min(length_.update_samples, samples_left()));
  return true;
}

// What people are told ---------------------------------------------------------------------------------------------------------

void AsyncProgress::log_step(double rate) {
  const double samples = std::max<double>(static_cast<double>(word_samples_), 1);
  std::array<double, Done::kSums> means{};
  for (std::size_t i = 0; i < means.size(); ++i) means[i] = words_[i] / samples;
  run_.out.metrics.log_step({.loss = means[0], .names = metrics_, .values = std::span(means).subspan(1), .rate = rate, .norm = norm_,
                             .replicas = static_cast<double>(rules_->present()), .batch = static_cast<double>(length_.update_samples)});
  speed_.log(run_.out.metrics, clock_.now(), "updates_per_second", static_cast<double>(run_.state.step));
  log_staleness();
  if (log_) log_();
}

void AsyncProgress::log_staleness() {
  const std::vector<std::int64_t> all = staleness();
  std::int64_t gradients = 0, sum = 0;
  for (std::size_t s = 0; s < all.size(); ++s) {
    gradients += all[s];
    sum += static_cast<std::int64_t>(s) * all[s];
  }
  run_.out.metrics.log("staleness/mean", gradients > 0 ? static_cast<double>(sum) / static_cast<double>(gradients) : 0);
  run_.out.metrics.log("staleness/largest", static_cast<double>(std::max<std::size_t>(all.size(), 1) - 1));
}

void AsyncProgress::log_counts(std::size_t worker, const WorkerCounts& counts) {
  const std::string name = fmt::format("workers/{}/", worker);
  run_.out.metrics.log(name + "applied", static_cast<double>(counts.applied));
  run_.out.metrics.log(name + "dropped", static_cast<double>(counts.dropped));
  run_.out.metrics.log(name + "waited", static_cast<double>(counts.waited));
}

std::vector<std::int64_t> AsyncProgress::staleness() const {
  std::vector<std::int64_t> staleness = staleness_;
  if (rules_ == nullptr) return staleness;
  staleness.resize(std::max(staleness.size(), rules_->staleness().size()), 0);
  for (std::size_t s = 0; s < rules_->staleness().size(); ++s) staleness[s] += rules_->staleness()[s];
  return staleness;
}

std::string AsyncProgress::table(std::span<const WorkerLine> workers) const {
  std::string text = "worker   rank    applied   dropped    waited\n";
  for (std::size_t worker = 0; worker < workers.size(); ++worker) {
    const auto& [rank, counts, lost, replaced] = workers[worker];
    const char* const fate = lost ? "   lost" : replaced ? "   replaced" : "";
    text += fmt::format("{:>6} {:>6} {:>10} {:>9} {:>9}{}\n", worker, rank, counts.applied, counts.dropped, counts.waited, fate);
  }
  text += "staleness";
  const std::vector<std::int64_t> all = staleness();
  for (std::size_t s = 0; s < all.size(); ++s) {
    if (all[s] > 0) text += fmt::format("  {}: {}", s, all[s]);
  }
  return text;
}

// Between updates --------------------------------------------------------------------------------------------------------------

Boundary AsyncProgress::boundary() const { return run_.policy.due(run_.point(saved_step_), run_.plan.phases.phases()[phase_].end); }

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
  log_staleness();
  const std::vector<std::int64_t> all = staleness();
  for (std::size_t s = 0; s < all.size(); ++s) {
    if (all[s] > 0) run_.out.metrics.log(fmt::format("staleness/{}", s), static_cast<double>(all[s]));
  }
  run_.out.metrics.flush();
  return true;
}

}  // namespace cohort
