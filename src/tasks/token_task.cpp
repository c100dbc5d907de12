#include "tasks/token_task.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace cohort {

TokenTask::Peer::Peer(Communicator& line, int in_line, int in_job, std::size_t elements)
    : rank(in_job), at(in_line), outbox(line.transport()), in(line.transport()), statistics_in(line.transport()), statistics(elements) {
  in.receive(at, task_tag::kDone, done.get(), sizeof *done);
}

TokenTask::TokenTask(Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local, const Parameters& kept,
                     std::vector<std::string> metrics)
    : run_(run), service_(service), layout_(layout), local_(local), kept_(kept), updates_(run, *service.context().clock, std::move(metrics)),
      outbox_(service.transport()), replacements_left_(run.plan.cluster.replace) {
  for (const Parameters::Other& other : kept.others()) statistics_ += other.statistic ? static_cast<std::size_t>(other.value.elements()) : 0;
  for (const int rank : layout.workers) peers_.emplace_back(service, rank, rank, statistics_);
  acks_.resize(layout.tasks.size());
  for (std::size_t task = 1; task < layout.tasks.size(); ++task) {
    acks_in_.emplace_back(service.transport());
    acks_in_.back().receive(layout.tasks[task], task_tag::kAck, &acks_[task], sizeof(Ack));
  }
  updates_.on_log([this] {
    for (std::size_t worker = 0; worker < peers_.size(); ++worker) {
      if (peers_[worker].index >= 0) updates_.log_counts(worker, counts(peers_[worker]));
    }
  });
  begin_phase();
  last_progress_ = last_beat_ = now();
  due_.end = run_.over();
  if (run_.ends_at_its_start()) look_for_boundary();
  else if (due_.end) stage_ = Stage::ending;
  if (std::exchange(run_.state.validation_due, 0) != 0 && run_.plan.validation_data) begin_evaluation();      // saved before it
}

void TokenTask::arrived(int worker, std::int64_t) { ++peers_[static_cast<std::size_t>(worker)].arrivals; }

bool TokenTask::turn() {
  (void)flushed();
  hear_stop();
  take_losses();
  replace_lost();
  bool moved = take_acks();
  moved = hear() || moved;
  moved = judge_complete() || moved;
  advance();
  deal();
  beat();
  publish();
  return moved;
}

bool TokenTask::flushed() {
  bool all = outbox_.progress();
  for (Peer& peer : peers_) all = (peer.outbox.progress() || peer.lost) && all;
  return all;
}

// What is heard ----------------------------------------------------------------------------------------------------------------

/// At any time: workers may be few or slow, or none may be left while another is being started.
void TokenTask::hear_stop() {
  if (run_.result.stopped || !service_.context().stop_requested()) return;
  run_.result.stopped = true;
  look_for_boundary();
}

void TokenTask::take_losses() {
  const Membership& membership = *service_.membership();
  if (membership.count() == losses_) return;
  losses_ = membership.count();
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
    if (!peers_[static_cast<std::size_t>(worker)].lost && membership.lost(peers_[static_cast<std::size_t>(worker)].rank)) lose(worker);
  }
}

/// What it sent before and is in the sum at hand is read first.
void TokenTask::replace_lost() {
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
    if (replacements_left_ == 0 || hiring_ >= 0 || !held_.empty() || stage_ >= Stage::ending) break;
    if (!peers_[static_cast<std::size_t>(worker)].lost) continue;
    --replacements_left_;
    hiring_ = worker;
    emit({.kind = LogKind::replace, .worker = worker});
    last_progress_ = now();
  }
  if (hiring_ >= 0) last_progress_ = now();
  if (stage_ >= Stage::ending || hiring_ >= 0 || std::ranges::any_of(peers_, [](const Peer& peer) { return !peer.lost; })) return;
  const std::vector<Membership::Loss> losses = service_.membership()->losses();
  // A mistake that every worker meets, such as labels beyond the model's classes, ends them one after the other.
  fail(Code::unavailable, "no worker is left to train" + (losses.empty() ? "" : "; the first: " + losses.front().reason) +
                              "; resume from the last checkpoint with --resume auto");
}

void TokenTask::replace(int worker, Communicator& line) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  Peer next(line, line.size() - 1, peer.rank, statistics_);
  next.life = peer.life + 1;
  next.before = counts(peer);
  next.giving = Giving::given;               // of what is being collected just now, nothing
  former_.push_back(std::exchange(peer, std::move(next)));
  ++run_.result.replaced;
  hiring_ = -1;
  losses_ = 0;                               // it may have been lost again by now
}

void TokenTask::do_without(bool last) {
  const int worker = std::exchange(hiring_, -1);
  if (last) replacements_left_ = 0;
  emit({.kind = LogKind::give_up, .worker = worker});
}

/// A worker that is new takes a place in the rules that somebody has left.
void TokenTask::give_place(Peer& peer) {
  for (int index = 0; index < updates_.trains(); ++index) {
    if (!rules().is_present(index)) return take_over(peer, index);
  }
}

/// What it had begun is free for others; somebody who only followed takes its place.
void TokenTask::lose(int worker) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  peer.lost = true;
  peer.idle = false;
  send(worker, {.kind = TokenKind::refused});      // if it still listens
  if (peer.evaluates) shares_[static_cast<std::size_t>(peer.share)] = kTodo;
  peer.evaluates = false;
  if (peer.index < 0) return;
  const int index = peer.index;
  count_earlier(peer);
  rules().leave(index);
  const auto other = std::ranges::find_if(peers_, [](const Peer& each) { return each.works() && each.index < 0 && !each.ended; });
  if (other == peers_.end()) return;
  take_over(*other, index);
}

void TokenTask::take_over(Peer& peer, int index) {
  rules().join(index);
  peer.index = index;
  peer.others = rules().counts()[static_cast<std::size_t>(index)];
}

/// It trains no more by the rules that hold now.
void TokenTask::count_earlier(Peer& peer) {
  peer.before = counts(peer);
  peer.index = -1;
  peer.others = {};
}

WorkerCounts TokenTask::counts(const Peer& peer) const {
  WorkerCounts all = peer.before;
  if (peer.index < 0) return all;
  const WorkerCounts& now = rules().counts()[static_cast<std::size_t>(peer.index)];
  all.applied += now.applied - peer.others.applied;
  all.dropped += now.dropped - peer.others.dropped;
  all.waited += now.waited - peer.others.waited;
  return all;
}

bool TokenTask::take_acks() {
  bool moved = false;
  for (std::size_t task = 1; task < acks_.size(); ++task) {
    Transfer& in = acks_in_[task - 1];
    while (in.done()) {
      moved = true;
      const Ack& ack = acks_[task];
      Peer& peer = peers_[static_cast<std::size_t>(ack.worker)];
      if (ack.number < 0) service_.membership()->lose(peer.rank, fmt::format("it sent parameter task {} what does not fit", task));
      else if (ack.life == peer.life) ++peer.arrivals;
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
      const Done done = *peer.done;
      peer.in.receive(peer.at, task_tag::kDone, peer.done.get(), sizeof *peer.done);
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
  if (done.stop != 0 && !run_.result.stopped) {
    run_.result.stopped = true;
    look_for_boundary();
  }
  switch (done.kind) {
    case DoneKind::ready:
      peer.idle = true;
      if (peer.index < 0) give_place(peer);
      return;
    case DoneKind::trained:
      peer.news = done;
      peer.has_news = true;
      return;
    case DoneKind::outdated:                 // it read values of a later step: as if its gradient had come too late
      if (peer.index >= 0 && rules().busy(peer.index)) (void)rules().judge(peer.index, done.read);
      peer.idle = true;
      return;
    case DoneKind::evaluated:
      return take_evaluation(worker, done);
    case DoneKind::saved:
      peer.giving = Giving::given;
      peer.idle = true;
      return;
    case DoneKind::statistics:
      peer.giving = Giving::sending;
      peer.statistics_in.receive(peer.at, task_tag::kStatistics, peer.statistics.data(), peer.statistics.size() * sizeof(float));
      return;
  }
}

void TokenTask::take_evaluation(int worker, const Done& done) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  peer.idle = true;
  peer.evaluates = false;
  shares_[static_cast<std::size_t>(peer.share)] = kFinished;
  evaluation_[0] += static_cast<double>(done.samples);
  for (std::size_t i = 1; i < evaluation_.size(); ++i) evaluation_[i] += done.sums[i - 1];
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
  if (peer.index < 0 || !rules().busy(peer.index)) {     // of a phase that is over
    ++peer.before.dropped;
    emit({.kind = LogKind::gradient, .worker = worker, .gradient = news.gradient});
    return;
  }
  LogEntry entry = updates_.judge(peer.index, news);
  entry.worker = worker;
  const StepOutcome outcome = emit_gradient(entry);
  if (!updates_.followed(entry, news, outcome)) return;
  for (Peer& each : peers_) {                // late ones as well: they are told when they ask
    if (!outcome.applied && each.version == news.read) each.skipped = news.read;
  }
  look_for_boundary();
}

StepOutcome TokenTask::emit(LogEntry entry) {
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
StepOutcome TokenTask::emit_gradient(const LogEntry& entry) {
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
