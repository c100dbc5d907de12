#include "tasks/token_task.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace cohort {

TokenTask::TokenTask(Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local, const Parameters& kept,
                     std::vector<std::string> metrics)
    : boundary_(parts_, kept), parts_(run, service, layout, local, std::move(metrics), boundary_.statistics(), boundary_), dealer_(parts_),
      replacements_left_(run.plan.cluster.replace) {
  parts_.progress.on_log([this] {
    for (int worker = 0; worker < parts_.workers.size(); ++worker) {
      if (parts_.work.of(worker).index >= 0) log_counts(parts_.run.out.metrics, static_cast<std::size_t>(worker), counts(worker));
    }
  });
  parts_.begin_phase();
  parts_.moves();
  const bool due = std::exchange(run.state.validation_due, 0) != 0;      // saved before it
  parts_.work.start(run.over(), run.ends_at_its_start(), due && run.plan.validation_data);
}

bool TokenTask::turn() {
  bool moved = admit();
  (void)flushed();
  hear_stop();
  take_losses();
  replace_lost();
  moved = take_acks() || moved;
  moved = hear() || moved;
  moved = judge_complete() || moved;
  parts_.work.advance(parts_.run.result.stopped, hiring_ >= 0);
  dealer_.deal();
  dealer_.beat();
  dealer_.publish();
  return moved;
}

bool TokenTask::flushed() {
  bool all = parts_.log.progress();
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    all = (parts_.workers[worker].channel.progress() || parts_.work.of(worker).lost) && all;
  }
  return all;
}

// What is heard ----------------------------------------------------------------------------------------------------------------

/// Here nothing refers to a peer, whatever has announced its successor.
bool TokenTask::admit() {
  const std::optional<int> worker = parts_.workers.admit();
  if (!worker) return false;
  parts_.work.of(*worker) = {.ready = false, .giving = Giving::given};       // of what is being collected just now, nothing
  ++parts_.run.result.replaced;
  hiring_ = -1;
  parts_.losses = 0;                         // it may have been lost again by now
  return true;
}

/// At any time: workers may be few or slow, or none may be left while another is being started.
void TokenTask::hear_stop() {
  if (parts_.run.result.stopped || !parts_.service.context().stop_requested()) return;
  parts_.run.result.stopped = true;
  parts_.work.look_for_boundary();
}

/// What they had begun is free for others; those who only followed take their places.
void TokenTask::take_losses() {
  const Membership& membership = *parts_.service.membership();
  if (membership.count() == parts_.losses) return;
  parts_.losses = membership.count();
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    if (parts_.work.of(worker).lost || !membership.lost(parts_.workers[worker].rank)) continue;
    parts_.work.lose(worker);
    dealer_.send(worker, {.kind = TokenKind::refused});      // if it still listens
    parts_.places.leave(worker);
  }
}

/// What it sent before and is in the sum at hand is read first.
void TokenTask::replace_lost() {
  const bool ends = parts_.work.stage() >= TokenWork::Stage::ending;
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    if (replacements_left_ == 0 || hiring_ >= 0 || parts_.log.holds() || ends) break;
    if (!parts_.work.of(worker).lost) continue;
    // A process that came late and died may hold up whoever makes a group, for ever; starting the next one takes a group.
    if (parts_.service.transport().groups_wait()) break;
    --replacements_left_;
    hiring_ = worker;
    parts_.log.emit({.kind = LogKind::replace, .worker = worker});
    parts_.moves();
  }
  if (hiring_ >= 0) parts_.moves();
  if (ends || hiring_ >= 0 || std::ranges::any_of(parts_.work.duties(), [](const WorkerDuty& duty) { return !duty.lost; })) return;
  const std::vector<Membership::Loss> losses = parts_.service.membership()->losses();
  // A mistake that every worker meets, such as labels beyond the model's classes, ends them one after the other.
  fail(Code::unavailable, "no worker is left to train" + (losses.empty() ? "" : "; the first: " + losses.front().reason) +
                              "; resume from the last checkpoint with --resume auto");
}

void TokenTask::do_without(bool last) {
  const int worker = std::exchange(hiring_, -1);
  if (last) replacements_left_ = 0;
  parts_.log.emit({.kind = LogKind::give_up, .worker = worker});
}

bool TokenTask::take_acks() {
  bool moved = false;
  while (const auto acknowledged = parts_.log.acknowledged()) {
    moved = true;
    const auto& [task, ack] = *acknowledged;
    TokenPeer& peer = parts_.workers[ack.worker];
    if (ack.number < 0) parts_.service.membership()->lose(peer.rank, fmt::format("it sent parameter task {} what does not fit", task));
    else if (ack.life == peer.life) ++peer.arrivals;
  }
  return moved;
}

bool TokenTask::hear() {
  bool moved = false;
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    WorkerChannel& channel = parts_.workers[worker].channel;
    WorkerDuty& duty = parts_.work.of(worker);
    if (duty.lost) continue;
    if (const std::optional<Done> done = channel.receive()) {
      moved = true;
      if (channel.is_news(*done)) take(worker, *done);           // else it came twice
    }
    if (duty.giving != Giving::sending || !channel.statistics_are_there()) continue;
    duty.giving = Giving::given;
    duty.idle = moved = true;
  }
  return moved;
}

void TokenTask::take(int worker, const Done& done) {
  TokenPeer& peer = parts_.workers[worker];
  WorkerDuty& duty = parts_.work.of(worker);
  duty.ready = true;
  if (done.stop != 0 && !parts_.run.result.stopped) {
    parts_.run.result.stopped = true;
    parts_.work.look_for_boundary();
  }
  switch (done.kind) {
    case DoneKind::ready:
      duty.idle = true;
      if (duty.index < 0) parts_.places.give(worker);
      return;
    case DoneKind::trained:
      peer.news = done;
      peer.has_news = true;
      return;
    case DoneKind::outdated:                 // it read values of a later step: as if its gradient had come too late
      if (duty.index >= 0 && parts_.rules().busy(duty.index)) (void)parts_.rules().judge(duty.index, done.read);
      duty.idle = true;
      return;
    case DoneKind::evaluated:
      parts_.work.take_evaluation(worker, done);
      parts_.moves();
      return;
    case DoneKind::saved:
      duty.giving = Giving::given;
      duty.idle = true;
      return;
    case DoneKind::statistics:
      duty.giving = Giving::sending;
      peer.channel.expect_statistics();
      return;
  }
}

// Gradients become updates -----------------------------------------------------------------------------------------------------

bool TokenTask::judge_complete() {
  bool moved = false;
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    const TokenPeer& peer = parts_.workers[worker];
    if (parts_.work.of(worker).lost || !peer.has_news || peer.arrivals < static_cast<int>(parts_.layout.tasks.size())) continue;
    judge(worker);
    moved = true;
  }
  return moved;
}

void TokenTask::judge(int worker) {
  TokenPeer& peer = parts_.workers[worker];
  WorkerDuty& duty = parts_.work.of(worker);
  const Done& news = peer.news;
  peer.has_news = false;
  peer.arrivals = 0;
  duty.idle = true;
  parts_.moves();
  if (duty.index < 0 || !parts_.rules().busy(duty.index)) {     // of a phase that is over
    parts_.places.drop(worker);
    parts_.log.emit({.kind = LogKind::gradient, .worker = worker, .gradient = news.gradient});
    return;
  }
  LogEntry entry = parts_.progress.judge(duty.index, news);
  entry.worker = worker;
  const StepOutcome outcome = parts_.log.emit_gradient(entry);
  if (!parts_.progress.followed(entry, news, outcome)) return;
  for (TokenPeer& each : parts_.workers) {   // late ones as well: they are told when they ask
    if (!outcome.applied && each.version == news.read) each.skipped = news.read;
  }
  parts_.work.look_for_boundary();
}

std::string TokenTask::table() const {
  std::vector<WorkerLine> lines;
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    lines.push_back({.rank = parts_.workers[worker].rank, .counts = counts(worker),
                     .lost = parts_.work.duties()[static_cast<std::size_t>(worker)].lost, .replaced = parts_.workers[worker].life > 0});
  }
  return parts_.progress.table(lines);
}

}  // namespace cohort
