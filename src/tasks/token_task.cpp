#include "tasks/token_task.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace cohort {
namespace {

constexpr double kBeat = 1;                  // seconds between two signs of life to a worker without work

}  // namespace

TokenTask::TokenTask(Run& run, Communicator& service, const TaskLayout& layout, ParameterTask& local, const Parameters& kept,
                     std::vector<std::string> metrics)
    : run_(run), service_(service), layout_(layout), statistics_(kept), progress_(run, *service.context().clock, std::move(metrics)),
      log_(run, service, layout, local), workers_(service, layout.workers, statistics_.elements()),
      work_(*this, workers_.size(),
            {.evaluation_sums = progress_.evaluation_sums(), .statistics = statistics_.elements() > 0, .residuals = layout.feeds_back}),
      places_(progress_, work_), replacements_left_(run.plan.cluster.replace) {
  progress_.on_log([this] {
    for (int worker = 0; worker < workers_.size(); ++worker) {
      if (work_.of(worker).index >= 0) log_counts(run_.out.metrics, static_cast<std::size_t>(worker), counts(worker));
    }
  });
  begin_phase();
  last_progress_ = last_beat_ = now();
  const bool due = std::exchange(run_.state.validation_due, 0) != 0;      // saved before it
  work_.start(run_.over(), run_.ends_at_its_start(), due && run_.plan.validation_data);
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
  work_.advance(run_.result.stopped, hiring_ >= 0);
  deal();
  beat();
  publish();
  return moved;
}

bool TokenTask::flushed() {
  bool all = log_.progress();
  for (int worker = 0; worker < workers_.size(); ++worker) all = (workers_[worker].channel.progress() || work_.of(worker).lost) && all;
  return all;
}

// What is heard ----------------------------------------------------------------------------------------------------------------

/// Here nothing refers to a peer, whatever has announced its successor.
bool TokenTask::admit() {
  const std::optional<int> worker = workers_.admit();
  if (!worker) return false;
  work_.of(*worker) = {.ready = false, .giving = Giving::given};       // of what is being collected just now, nothing
  ++run_.result.replaced;
  hiring_ = -1;
  losses_ = 0;                               // it may have been lost again by now
  return true;
}

/// At any time: workers may be few or slow, or none may be left while another is being started.
void TokenTask::hear_stop() {
  if (run_.result.stopped || !service_.context().stop_requested()) return;
  run_.result.stopped = true;
  work_.look_for_boundary();
}

void TokenTask::take_losses() {
  const Membership& membership = *service_.membership();
  if (membership.count() == losses_) return;
  losses_ = membership.count();
  for (int worker = 0; worker < workers_.size(); ++worker) {
    if (!work_.of(worker).lost && membership.lost(workers_[worker].rank)) lose(worker);
  }
}

/// What it sent before and is in the sum at hand is read first.
void TokenTask::replace_lost() {
  const bool ends = work_.stage() >= TokenWork::Stage::ending;
  for (int worker = 0; worker < workers_.size(); ++worker) {
    if (replacements_left_ == 0 || hiring_ >= 0 || log_.holds() || ends) break;
    if (!work_.of(worker).lost) continue;
    --replacements_left_;
    hiring_ = worker;
    log_.emit({.kind = LogKind::replace, .worker = worker});
    last_progress_ = now();
  }
  if (hiring_ >= 0) last_progress_ = now();
  if (ends || hiring_ >= 0 || std::ranges::any_of(work_.duties(), [](const WorkerDuty& duty) { return !duty.lost; })) return;
  const std::vector<Membership::Loss> losses = service_.membership()->losses();
  // A mistake that every worker meets, such as labels beyond the model's classes, ends them one after the other.
  fail(Code::unavailable, "no worker is left to train" + (losses.empty() ? "" : "; the first: " + losses.front().reason) +
                              "; resume from the last checkpoint with --resume auto");
}

void TokenTask::do_without(bool last) {
  const int worker = std::exchange(hiring_, -1);
  if (last) replacements_left_ = 0;
  log_.emit({.kind = LogKind::give_up, .worker = worker});
}

/// What it had begun is free for others; somebody who only followed takes its place.
void TokenTask::lose(int worker) {
  work_.lose(worker);
  send(worker, {.kind = TokenKind::refused});      // if it still listens
  places_.leave(worker);
}

bool TokenTask::take_acks() {
  bool moved = false;
  while (const auto acknowledged = log_.acknowledged()) {
    moved = true;
    const auto& [task, ack] = *acknowledged;
    TokenPeer& peer = workers_[ack.worker];
    if (ack.number < 0) service_.membership()->lose(peer.rank, fmt::format("it sent parameter task {} what does not fit", task));
    else if (ack.life == peer.life) ++peer.arrivals;
  }
  return moved;
}

bool TokenTask::hear() {
  bool moved = false;
  for (int worker = 0; worker < workers_.size(); ++worker) {
    WorkerChannel& channel = workers_[worker].channel;
    WorkerDuty& duty = work_.of(worker);
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
  TokenPeer& peer = workers_[worker];
  WorkerDuty& duty = work_.of(worker);
  duty.ready = true;
  if (done.stop != 0 && !run_.result.stopped) {
    run_.result.stopped = true;
    work_.look_for_boundary();
  }
  switch (done.kind) {
    case DoneKind::ready:
      duty.idle = true;
      if (duty.index < 0) places_.give(worker);
      return;
    case DoneKind::trained:
      peer.news = done;
      peer.has_news = true;
      return;
    case DoneKind::outdated:                 // it read values of a later step: as if its gradient had come too late
      if (duty.index >= 0 && rules().busy(duty.index)) (void)rules().judge(duty.index, done.read);
      duty.idle = true;
      return;
    case DoneKind::evaluated:
      work_.take_evaluation(worker, done);
      last_progress_ = now();
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
  for (int worker = 0; worker < workers_.size(); ++worker) {
    const TokenPeer& peer = workers_[worker];
    if (work_.of(worker).lost || !peer.has_news || peer.arrivals < static_cast<int>(layout_.tasks.size())) continue;
    judge(worker);
    moved = true;
  }
  return moved;
}

void TokenTask::judge(int worker) {
  TokenPeer& peer = workers_[worker];
  WorkerDuty& duty = work_.of(worker);
  const Done& news = peer.news;
  peer.has_news = false;
  peer.arrivals = 0;
  duty.idle = true;
  last_progress_ = now();
  if (duty.index < 0 || !rules().busy(duty.index)) {     // of a phase that is over
    places_.drop(worker);
    log_.emit({.kind = LogKind::gradient, .worker = worker, .gradient = news.gradient});
    return;
  }
  LogEntry entry = progress_.judge(duty.index, news);
  entry.worker = worker;
  const StepOutcome outcome = log_.emit_gradient(entry);
  if (!progress_.followed(entry, news, outcome)) return;
  for (TokenPeer& each : workers_) {         // late ones as well: they are told when they ask
    if (!outcome.applied && each.version == news.read) each.skipped = news.read;
  }
  work_.look_for_boundary();
}

// Work -------------------------------------------------------------------------------------------------------------------------

void TokenTask::begin_phase() {
  places_.begin_phase();
  run_.out.progress.set_team(run_.plan.phases.phases().size() > 1 ? fmt::format("  {} workers", progress_.plan().trains()) : "");
}

bool TokenTask::deal_training(int worker) {
  const WorkerDuty& duty = work_.of(worker);
  if (work_.stage() != TokenWork::Stage::training || duty.index < 0 || !progress_.plan().wants_more()) return false;
  const std::optional<int> share = rules().begin(duty.index);
  if (!share) return false;
  send(worker, progress_.plan().training(*share));
  if (!rules().in_steps() && run_.state.position.sample == 0) work_.look_for_boundary();
  return true;
}

void TokenTask::deal() {
  for (int worker = 0; worker < workers_.size(); ++worker) {
    if (work_.of(worker).lost || !work_.of(worker).idle || deal_training(worker)) continue;
    const std::optional<Token> token = work_.next(worker, {.version = rules().version(), .step = run_.state.step, .complete = losses_ == 0});
    if (token) send(worker, *token);
  }
}

void TokenTask::send(int worker, Token token) {
  TokenPeer& peer = workers_[worker];
  work_.of(worker).idle = token.kind == TokenKind::beat;
  token.skipped = std::exchange(peer.skipped, -1);
  if (token.kind == TokenKind::train) peer.version = token.version;
  token.averages = (token.kind == TokenKind::train || token.kind == TokenKind::evaluate) && !peer.knows_averages ? 1 : 0;
  peer.channel.send(token);
  if (token.averages == 0) return;
  peer.channel.send(averages_);
  peer.knows_averages = true;
}

/// Workers that wait hear that others are at work, as long as they are: their waits stay short, and those that do not end mean
/// something.
void TokenTask::beat() {
  const double time = now();
  if (time - last_beat_ < kBeat) return;
  if (last_progress_ >= last_beat_) {
    for (int worker = 0; worker < workers_.size(); ++worker) {
      const WorkerDuty& duty = work_.of(worker);
      if (!duty.lost && duty.idle && !duty.ended) send(worker, {.kind = TokenKind::beat});
    }
  }
  last_beat_ = time;
}

/// For whom everybody waits, if it is somebody.
void TokenTask::publish() {
  const double time = now();
  if (time - last_publish_ < 0.1) return;
  last_publish_ = time;
  const auto busy = std::ranges::find_if(work_.duties(), [](const WorkerDuty& duty) { return !duty.lost && !duty.idle && !duty.ended; });
  if (busy == work_.duties().end() || work_.stage() == TokenWork::Stage::ended) return service_.activity().clear();
  const int worker = static_cast<int>(busy - work_.duties().begin());
  service_.activity().publish({.operation = work_.stage() == TokenWork::Stage::evaluating ? "evaluation" : "gradients",
                               .peer = service_.job_rank(workers_[worker].rank), .step = run_.state.step, .since = last_progress_});
}

// Between updates --------------------------------------------------------------------------------------------------------------

void TokenTask::average_statistics() {
  StatisticsMean mean(statistics_.elements());
  for (int worker = 0; worker < workers_.size(); ++worker) {
    const WorkerDuty& duty = work_.of(worker);
    if (!duty.lost && duty.giving == Giving::given && duty.index >= 0) mean.add(workers_[worker].channel.statistics());
  }
  if (mean.rows() == 0) return;
  averages_ = mean.mean();
  for (TokenPeer& peer : workers_) peer.knows_averages = false;
  statistics_.write(averages_);
}

bool TokenTask::save(bool best) {
  if (!progress_.may_save(best)) return false;
  log_.emit({.kind = LogKind::save, .best = best ? 1 : 0, .step = run_.state.step});
  return true;
}

bool TokenTask::needs_nobody() {
  last_progress_ = now();
  return writer_->needs_nobody();
}

void TokenTask::pass(bool end) {
  last_progress_ = now();
  if (end || !progress_.plan().phase_over()) return;
  places_.end_phase();
  progress_.enter_phase();
  begin_phase();
}

std::string TokenTask::table() const {
  std::vector<WorkerLine> lines;
  for (int worker = 0; worker < workers_.size(); ++worker) {
    lines.push_back({.rank = workers_[worker].rank, .counts = counts(worker), .lost = work_.duties()[static_cast<std::size_t>(worker)].lost,
                     .replaced = workers_[worker].life > 0});
  }
  return progress_.table(lines);
}

}  // namespace cohort
