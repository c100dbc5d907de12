#include "train/tasks/token_task.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace cohort {
namespace {

constexpr int kTodo = -1, kFinished = -2;    // shares of an evaluation that nobody has at hand

}  // namespace

TokenTask::TokenTask(Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local, const Parameters& kept,
                     std::vector<std::string> metrics)
    : run_(run), service_(service), layout_(layout), local_(local), kept_(kept), metrics_(std::move(metrics)), outbox_(service.transport()) {
  check(metrics_.size() + 1 <= Done::kSums, Code::invalid_argument, fmt::format("a model may report at most {} metrics", Done::kSums - 1));
  for (const Parameters::Other& other : kept.others()) statistics_ += other.statistic ? static_cast<std::size_t>(other.value.elements()) : 0;
  for (const int rank : layout.workers) {
    Peer& peer = peers_.emplace_back();
    peer.rank = rank;
    peer.in = Transfer(service.transport());
    peer.statistics_in = Transfer(service.transport());
    peer.statistics.resize(statistics_);
    peer.in.receive(rank, task_tag::kDone, &peer.done, sizeof peer.done);
  }
  acks_.resize(layout.tasks.size());
  for (std::size_t task = 1; task < layout.tasks.size(); ++task) {
    acks_in_.emplace_back(service.transport());
    acks_in_.back().receive(layout.tasks[task], task_tag::kAck, &acks_[task], sizeof(Ack));
  }
  enter_phase();
  items_ = run_.state.samples / item_samples_;
  saved_step_ = run_.state.step;
  window_began_ = last_progress_ = last_beat_ = now();
  window_step_ = run_.state.step;
  if (run_.over()) stage_ = Stage::ending;
}

void TokenTask::arrived(int worker, std::int64_t) { ++peers_[static_cast<std::size_t>(worker)].arrivals; }

bool TokenTask::turn() {
  outbox_.progress();
  take_losses();
  bool moved = take_acks();
  moved = hear() || moved;
  moved = judge_complete() || moved;
  advance();
  deal();
  beat();
  publish();
  return moved;
}

// What is heard ----------------------------------------------------------------------------------------------------------------

void TokenTask::take_losses() {
  const Membership& membership = *service_.membership();
  if (membership.count() == losses_) return;
  losses_ = membership.count();
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
    if (!peers_[static_cast<std::size_t>(worker)].lost && membership.lost(peers_[static_cast<std::size_t>(worker)].rank)) lose(worker);
  }
  check(stage_ >= Stage::ending || std::ranges::any_of(peers_, [](const Peer& peer) { return !peer.lost; }), Code::unavailable,
        "no worker is left to train; resume from the last checkpoint with --resume auto");
}

/// What it had begun is free for others; somebody who only followed takes its place.
void TokenTask::lose(int worker) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  peer.lost = true;
  peer.idle = false;
  outbox_.forget(peer.rank);
  if (peer.evaluates) shares_[static_cast<std::size_t>(peer.share)] = kTodo;
  peer.evaluates = false;
  if (peer.index < 0) return;
  const int index = peer.index;
  count_earlier(peer);
  rules_->leave(index);
  const auto other = std::ranges::find_if(peers_, [](const Peer& each) { return !each.lost && each.index < 0 && !each.ended; });
  if (other == peers_.end()) return;
  rules_->join(index);
  other->index = index;
}

/// It trains no more by the rules that hold now.
void TokenTask::count_earlier(Peer& peer) {
  if (peer.index < 0) return;
  const WorkerCounts& counts = rules_->counts()[static_cast<std::size_t>(std::exchange(peer.index, -1))];
  peer.before.applied += counts.applied;
  peer.before.dropped += counts.dropped;
  peer.before.waited += counts.waited;
}

bool TokenTask::take_acks() {
  bool moved = false;
  for (std::size_t task = 1; task < acks_.size(); ++task) {
    Transfer& in = acks_in_[task - 1];
    while (in.done()) {
      moved = true;
      ++peers_[static_cast<std::size_t>(acks_[task].worker)].arrivals;
      in.receive(layout_.tasks[task], task_tag::kAck, &acks_[task], sizeof(Ack));
    }
  }
  return moved;
}

bool TokenTask::hear() {
  bool moved = false;
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
    Peer& peer = peers_[static_cast<std::size_t>(worker)];
    if (peer.lost) continue;
    if (peer.in.done()) {
      moved = true;
      const Done done = peer.done;
      peer.in.receive(peer.rank, task_tag::kDone, &peer.done, sizeof peer.done);
      if (done.number > peer.heard) take(worker, done);          // else it came twice
    }
    if (peer.giving != Giving::sending || !peer.statistics_in.done()) continue;
    peer.giving = Giving::given;
    peer.idle = moved = true;
  }
  return moved;
}

void TokenTask::take(int worker, const Done& done) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  peer.heard = done.number;
  peer.asked = now();
  if (done.stop != 0 && !run_.result.stopped) {
    run_.result.stopped = true;
    look_for_boundary();
  }
  switch (done.kind) {
    case DoneKind::ready:
      peer.idle = true;
      return;
    case DoneKind::trained:
      peer.news = done;
      peer.has_news = true;
      return;
    case DoneKind::outdated:                 // it read values of a later step: as if its gradient had come too late
      if (peer.index >= 0 && rules_->busy(peer.index)) (void)rules_->judge(peer.index, done.read);
      peer.idle = true;
      return;
    case DoneKind::evaluated:
      return take_evaluation(worker, done);
    case DoneKind::statistics:
      peer.giving = Giving::sending;
      peer.statistics_in.receive(peer.rank, task_tag::kStatistics, peer.statistics.data(), peer.statistics.size() * sizeof(float));
      return;
  }
}

void TokenTask::take_evaluation(int worker, const Done& done) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  peer.idle = true;
  peer.evaluates = false;
  shares_[static_cast<std::size_t>(peer.share)] = kFinished;
  evaluation_[0] += static_cast<double>(done.samples);
  for (std::size_t i = 0; i <= metrics_.size(); ++i) evaluation_[1 + i] += done.sums[i];
  last_progress_ = now();
}

// Gradients become updates -----------------------------------------------------------------------------------------------------

bool TokenTask::judge_complete() {
  bool moved = false;
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
    Peer& peer = peers_[static_cast<std::size_t>(worker)];
    if (peer.lost || !peer.has_news || peer.arrivals < static_cast<int>(layout_.tasks.size())) continue;
    judge(worker);
    moved = true;
  }
  return moved;
}

void TokenTask::judge(int worker) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  const Done& news = peer.news;
  peer.has_news = false;
  peer.arrivals = 0;
  peer.idle = true;
  last_progress_ = now();
  LogEntry entry{.kind = LogKind::gradient, .worker = worker, .gradient = news.gradient};
  const bool finite = std::isfinite(news.norm);
  if (peer.index < 0 || !rules_->busy(peer.index)) {     // of a phase that is over
    ++peer.before.dropped;
    emit(entry);
    return;
  }
  // Where an update averages a step's gradients it is measured as a whole, and skipped as a whole.
  const Judgement judgement = rules_->judge(peer.index, news.read, finite || rules_->in_steps());
  entry.accepted = judgement.accepted ? 1 : 0;
  entry.applies = judgement.applies ? 1 : 0;
  entry.weight = judgement.weight;
  const double clip = run_.plan.train.clip_norm;
  if (!rules_->in_steps() && clip > 0 && news.norm > clip) entry.weight *= clip / news.norm;
  if (judgement.accepted) add_words(news);
  pending_ += judgement.accepted ? 1 : 0;
  if (!judgement.applies) {
    (void)emit_gradient(entry);
    if (!finite && !rules_->in_steps()) run_.skip(fmt::format("a gradient of worker {} is not finite, it is dropped", worker));
    return;
  }
  const double rate = run_.rate(length_, run_.state.position);
  entry.rate = rate * judgement.rate_factor;
  entry.previous_rate = (run_.state.applied > 0 ? run_.state.previous_rate : rate) * judgement.rate_factor;
  entry.sum_scale = judgement.sum_scale;
  entry.applied = run_.state.applied;
  entry.in_steps = rules_->in_steps() ? 1 : 0;
  const Outcome outcome = emit_gradient(entry);
  pending_ = 0;
  if (outcome.applied) run_.applied(rate);
  norm_ = rules_->in_steps() ? outcome.gradient_norm : news.norm;
  rules_->applied();
  after_update(entry, outcome);
}

void TokenTask::add_words(const Done& done) {
  for (std::size_t i = 0; i < Done::kSums; ++i) words_[i] += done.sums[i];
  word_samples_ += done.samples;
}

Outcome TokenTask::emit(LogEntry entry) {
  entry.number = ++entries_;
  for (std::size_t task = 1; task < layout_.tasks.size(); ++task) outbox_.send(layout_.tasks[task], task_tag::kLog, entry);
  return local_.follow(entry);
}

/// A sum that is to have the same bits again takes its gradients in an order that does not depend on who came first.
Outcome TokenTask::emit_gradient(const LogEntry& entry) {
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
  Outcome outcome;
  for (const LogEntry& each : held_) outcome = emit(each);
  held_.clear();
  return outcome;
}

void TokenTask::after_update(const LogEntry& entry, const Outcome& outcome) {
  ++run_.state.step;
  const std::int64_t epoch = run_.state.position.epoch;
  run_.state.samples += word_samples_;
  window_samples_ += word_samples_;
  if (!outcome.applied) run_.skip("a gradient is not finite, the update is skipped by all parameter tasks");
  const double samples = std::max<double>(static_cast<double>(word_samples_), 1);
  run_.result.loss = words_[0] / samples;
  run_.progress.step(run_.state.step, epoch, word_samples_, run_.result.loss);
  if (run_.is_logged(run_.state.step)) log_step(entry.rate, norm_);
  words_.fill(0);
  word_samples_ = 0;
  if (rules_->in_steps()) run_.state.position = advanced(run_.state.position, std::min(length_.update_samples, samples_left()));
  run_.result.stopped = run_.result.stopped || service_.context().stop_requested();
  look_for_boundary();
}

void TokenTask::log_step(double rate, double norm) {
  const double samples = std::max<double>(static_cast<double>(word_samples_), 1);
  run_.log("train/loss", words_[0] / samples);
  for (std::size_t m = 0; m < metrics_.size(); ++m) run_.log("train/" + metrics_[m], words_[1 + m] / samples);
  run_.log("learning_rate", rate);
  run_.log("gradient_norm", norm);
  run_.log("replicas", rules_->present());
  run_.log("batch", static_cast<double>(length_.update_samples));
  const double seconds = now() - window_began_;
  if (seconds > 0) {
    run_.log("samples_per_second", static_cast<double>(window_samples_) / seconds);
    run_.log("updates_per_second", static_cast<double>(run_.state.step - window_step_) / seconds);
  }
  window_began_ = now();
  window_samples_ = 0;
  window_step_ = run_.state.step;
  for (std::size_t worker = 0; worker < peers_.size(); ++worker) {
    if (peers_[worker].index < 0) continue;
    const WorkerCounts& counts = rules_->counts()[static_cast<std::size_t>(peers_[worker].index)];
    const std::string name = fmt::format("workers/{}/", worker);
    run_.log(name + "applied", static_cast<double>(counts.applied));
    run_.log(name + "dropped", static_cast<double>(counts.dropped));
    run_.log(name + "waited", static_cast<double>(counts.waited));
  }
  std::int64_t gradients = 0, sum = 0;
  for (std::size_t s = 0; s < rules_->staleness().size(); ++s) {
    gradients += rules_->staleness()[s];
    sum += static_cast<std::int64_t>(s) * rules_->staleness()[s];
  }
  run_.log("staleness/mean", gradients > 0 ? static_cast<double>(sum) / static_cast<double>(gradients) : 0);
  run_.log("staleness/largest", static_cast<double>(std::max<std::size_t>(rules_->staleness().size(), 1) - 1));
}

}  // namespace cohort
