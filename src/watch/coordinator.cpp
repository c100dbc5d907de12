#include "watch/coordinator.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace cohort {
namespace {

constexpr double kSettlePeriod = 0.05;     // between questions while a verdict is due
constexpr double kArrival = 10;            // seconds that a replacement may take to connect

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, Log log)
    : options_(std::move(options)), log_(std::move(log)), ranks_(options_.hosts.size()),
      links_(options_.listen, options_.hosts.size()) {
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) ranks_[rank].host = options_.hosts[rank];
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Coordinator::~Coordinator() {
  thread_.request_stop();
  links_.wake();
}

void Coordinator::run(const std::stop_token& stop) {
  double last_turn = steady_seconds();
  while (!stop.stop_requested()) {
    const double pause = settling(ranks_, options_.only) ? kSettlePeriod : std::min(options_.period, 0.1);
    links_.wait(pause);
    const double time = steady_seconds(), gap = time - last_turn - pause;
    double starved = std::max(1.0, options_.timeout / 4);
    if (heartbeat_timeout_ > 0) starved = std::min(starved, heartbeat_timeout_ / kBeats);
    if (gap > starved) {   // suspended, or starved: everybody's news may be late
      for (RankView& rank : ranks_) rank.forgive(gap);
    }
    last_turn = time;
    links_.take(options_.token, [this](Link&& link, const Hello& hello) { admit(std::move(link), hello); });
    for (int rank = 0; rank < static_cast<int>(links_.size()); ++rank) hear(rank);
    follow_membership(time);
    miss_replacements(ranks_, time, kArrival);
    if (!decided_ && !stood_down_.load(std::memory_order_acquire)) decide(time);
  }
  links_.end();
}

void Coordinator::admit(Link link, const Hello& hello) {
  const auto rank = static_cast<std::size_t>(hello.rank);
  follow_changes(steady_seconds());
  if (ranks_[rank].lost || ranks_[rank].connected) return link.close();   // its place is not free
  ranks_[rank].connected = true;
  ranks_[rank].heard = steady_seconds();
  links_[rank] = std::move(link);
  links_[rank].send(FrameKind::welcome, as_body(hello));
}

void Coordinator::hear(int rank) {
  Link& link = links_[static_cast<std::size_t>(rank)];
  if (!link.open()) return;
  link.flush();
  const double time = steady_seconds();
  link.receive([&](FrameKind kind, std::string_view body) { on_frame(rank, kind, body, time); });
  RankView& view = ranks_[static_cast<std::size_t>(rank)];
  if (link.open() || all_left(ranks_)) return;
  view.ended = true;
  view.ended_at = time;
}

void Coordinator::on_frame(int rank, FrameKind kind, std::string_view body, double time) {
  RankView& view = ranks_[static_cast<std::size_t>(rank)];
  if (view.lost) return;
  view.heard = time;
  switch (kind) {
    case FrameKind::report:
      if (Report report; read_body(body, report) && view.hear(report, time)) be_patient(time);
      return;
    case FrameKind::failure:
      if (view.failure.empty()) view.failed_at = time;
      view.failed_in = view.report.place_text();   // it has just sent that
      view.failure = body.empty() ? "an error without a text" : std::string(body);
      return;
    case FrameKind::goodbye:
      view.left = true;
      view.left_at = time;
      say_farewell();
      return;
    default: return;
  }
}

/// A rank waits for the disk, and the disk is at work: whoever waits for that rank counts from anew, here and there.
void Coordinator::be_patient(double time) {
  for (RankView& view : ranks_) view.waiting_since = time;
  if (options_.only < 0) send_all(FrameKind::patience);
}

void Coordinator::decide(double time) {
  if (all_left(ranks_)) return;
  if (settling(ranks_, options_.only)) send_all(FrameKind::query);
  double timeout = options_.timeout;
  // Where this rank's own line is cut, rank 0 says first that this one is lost.
  const bool replaceable = options_.only >= 0 && options_.membership->may_lose(options_.rank);
  if (replaceable) timeout = std::max(timeout, 2 * heartbeat_timeout_);
  const std::optional<Trouble> trouble = find_trouble(ranks_, time, timeout, options_.only);
  if (!trouble) {
    if (options_.only >= 0 && ranks_[0].silent_for(time) > timeout / 2 && !asked_) {
      asked_ = true;
      links_[0].send(FrameKind::query);   // so that there is something to acknowledge
    }
    return;
  }
  const auto may_be_lost = [&](int rank) { return options_.only < 0 && options_.membership->may_lose(rank); };
  if (!trouble->ranks.empty() && std::ranges::all_of(trouble->ranks, may_be_lost)) return declare_lost(*trouble, time);
  decided_ = true;
  Verdict verdict = verdict_on(ranks_, *trouble, time);
  // It is the line to rank 0 that is cut: a machine acknowledges what comes even for a process that is stopped.
  if (trouble->kind == Trouble::Kind::silent && replaceable && links_[0].unacknowledged()) {
    verdict = {Verdict::Kind::excluded,
               fmt::format("no line any more to rank 0 on {}, which goes on without this rank", ranks_[0].host)};
  }
  if (verdict.kind == Verdict::Kind::lost) log_.error(verdict.text);   // before anybody can act on it
  send_all(FrameKind::verdict, std::string(1, static_cast<char>(verdict.kind)) + verdict.text);
}

/// Ranks agree on who may be lost, and how soon, at some time of their own; from then on they are asked to speak as often as
/// that needs.
void Coordinator::follow_membership(double time) {
  const double heartbeat_timeout = options_.membership->heartbeat_timeout();
  if (heartbeat_timeout != heartbeat_timeout_) {
    heartbeat_timeout_ = heartbeat_timeout;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      ranks_[rank].may_be_lost = options_.only < 0 && options_.membership->may_lose(static_cast<int>(rank));
      ranks_[rank].patience = ranks_[rank].may_be_lost ? heartbeat_timeout : 0;
      ranks_[rank].patient_since = time;
    }
    if (heartbeat_timeout > 0) options_.period = std::min(options_.period, heartbeat_timeout / kBeats);
    if (options_.only < 0) send_all(FrameKind::pace, as_body(options_.period));
  }
  follow_changes(time);
}

/// What this coordinator, or this rank, has found out about ranks that may be lost. All ranks are to know it.
void Coordinator::follow_changes(double time) {
  const std::vector<Membership::Change> changes = options_.membership->changes(changes_);
  if (changes.empty()) return;
  changes_ += changes.size();
  for (const Membership::Change& change : changes) {
    if (!change.lost || options_.only >= 0) continue;
    RankView& view = ranks_[static_cast<std::size_t>(change.rank)];
    const LossHead head{.rank = change.rank, .earlier = view.losses++, .silent = view.lost_after};
    send_all(FrameKind::loss, std::string(as_body(head)) + change.text);   // the lost rank is told as well
  }
  for (const Membership::Change& change : changes) {
    if (change.lost) mark_lost(ranks_, change.rank, time);
    else if (options_.only < 0) expect_replacement(change, time);          // to the other one they do not report
  }
  say_farewell();
}

void Coordinator::expect_replacement(const Membership::Change& change, double time) {
  const auto rank = static_cast<std::size_t>(change.rank);
  links_.make_room(rank);
  RankView view;
  view.host = change.text;
  view.losses = ranks_[rank].losses;
  view.may_be_lost = true;
  view.patience = heartbeat_timeout_;
  view.awaited_since = view.heard = view.patient_since = time;
  ranks_[rank] = std::move(view);
}

void Coordinator::declare_lost(const Trouble& trouble, double time) {
  for (const int rank : trouble.ranks) {
    const std::string reason = trouble_text(ranks_, trouble, rank, time);
    const bool silent = trouble.kind == Trouble::Kind::silent || trouble.silent;
    RankView& view = ranks_[static_cast<std::size_t>(rank)];
    view.lost_after = silent ? view.silent_for(time) : 0;
    log_.warning(reason + "; the others go on without it");
    options_.membership->lose(rank, reason);
  }
  follow_changes(time);
}

void Coordinator::say_farewell() {
  if (all_left(ranks_)) send_all(FrameKind::farewell);
}

void Coordinator::send_all(FrameKind kind, std::string_view body) {
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (!ranks_[rank].lost) links_[rank].send(kind, body);
  }
}

}  // namespace cohort
