// The token task's other half: what the workers are to do next, and what happens between updates.
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "tasks/token_task.hpp"

namespace cohort {
namespace {

constexpr double kBeat = 1;                  // seconds between two signs of life to a worker without work

}  // namespace

// Token -------------------------------------------------------------------------------------------------------------------------

void TokenTask::enter_phase() {
  for (Peer& peer : peers_) count_earlier(peer);
  updates_.enter_phase();
  begin_phase();
}

void TokenTask::begin_phase() {
  const int wanted = updates_.trains();
  int index = 0;
  for (Peer& peer : peers_) {
    if (peer.works() && index < wanted) peer.index = index++;
  }
  for (; index < wanted; ++index) rules().leave(index);
  run_.out.progress.set_team(run_.plan.phases.phases().size() > 1 ? fmt::format("  {} workers", wanted) : "");
}

bool TokenTask::deal_training(int worker) {
  const Peer& peer = peers_[static_cast<std::size_t>(worker)];
  if (stage_ != Stage::training || peer.index < 0 || !updates_.wants_more()) return false;
  const std::optional<int> share = rules().begin(peer.index);
  if (!share) return false;
  send(worker, updates_.training(*share));
  if (!rules().in_steps() && run_.state.position.sample == 0) look_for_boundary();
  return true;
}

void TokenTask::deal() {
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
    Peer& peer = peers_[static_cast<std::size_t>(worker)];
    if (peer.lost || !peer.idle || deal_training(worker)) continue;
    if (stage_ == Stage::statistics && peer.index >= 0 && peer.giving == Giving::nothing) {
      peer.giving = Giving::asked;
      send(worker, {.kind = TokenKind::give_statistics});
    } else if (stage_ == Stage::saving && peer.giving == Giving::nothing) {
      peer.giving = Giving::asked;
      send(worker, {.kind = residuals_, .step = run_.state.step, .share = best_ ? 1 : 0});
    } else if (stage_ == Stage::evaluating) {
      const auto share = std::ranges::find(shares_, kTodo);
      if (share == shares_.end()) continue;
      *share = worker;
      peer.share = static_cast<int>(share - shares_.begin());
      peer.evaluates = true;
      send(worker, {.kind = TokenKind::evaluate, .version = rules().version(), .share = peer.share, .shares = static_cast<std::int32_t>(shares_.size())});
    } else if (stage_ == Stage::ending) {
      peer.ended = true;
      send(worker, {.kind = TokenKind::end, .complete = losses_ == 0 ? 1 : 0});
    }
  }
}

void TokenTask::send(int worker, Token token) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  peer.idle = token.kind == TokenKind::beat;
  token.number = ++peer.number;
  token.skipped = std::exchange(peer.skipped, -1);
  if (token.kind == TokenKind::train) peer.version = token.version;
  token.averages = (token.kind == TokenKind::train || token.kind == TokenKind::evaluate) && !peer.knows_averages ? 1 : 0;
  peer.outbox.send(peer.at, task_tag::kToken, token);
  if (token.averages == 0) return;
  peer.outbox.send(peer.at, task_tag::kAverages, std::as_bytes(std::span(averages_)));
  peer.knows_averages = true;
}

/// Workers that wait hear that others are at work, as long as they are: their waits stay short, and those that do not end mean
/// something.
void TokenTask::beat() {
  const double time = now();
  if (time - last_beat_ < kBeat) return;
  if (last_progress_ >= last_beat_) {
    for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
      const Peer& peer = peers_[static_cast<std::size_t>(worker)];
      if (!peer.lost && peer.idle && !peer.ended) send(worker, {.kind = TokenKind::beat});
    }
  }
  last_beat_ = time;
}

// Between updates --------------------------------------------------------------------------------------------------------------

/// After an update, or where the next gradient would be of another epoch: is there anything to do before training goes on?
void TokenTask::look_for_boundary() {
  if (stage_ != Stage::training) return;
  due_ = updates_.boundary();
  if (due_.any()) stage_ = Stage::draining;
}

bool TokenTask::everyone(bool (*holds)(const Peer&)) const {
  return std::ranges::all_of(peers_, [&](const Peer& peer) { return peer.lost || holds(peer); });
}

void TokenTask::advance() {
  if (stage_ == Stage::draining && (rules().in_steps() || rules().under_way() == 0)) begin_statistics();
  if (stage_ == Stage::statistics &&
      everyone([](const Peer& peer) { return peer.index < 0 || peer.giving == Giving::given || (peer.giving == Giving::nothing && !peer.idle); })) {
    finish_statistics();
  }
  if (stage_ == Stage::publishing) {         // workers that fail at the validation may take tasks along
    last_progress_ = now();
    if (writer_->needs_nobody()) begin_evaluation();
  }
  if (stage_ == Stage::evaluating && run_.result.stopped) abandon_evaluation();
  if (stage_ == Stage::evaluating && std::ranges::all_of(shares_, [](int share) { return share == kFinished; })) finish_evaluation();
  if (stage_ == Stage::saving &&
      everyone([](const Peer& peer) { return peer.giving == Giving::given || (peer.giving == Giving::nothing && !peer.idle); })) {
    evaluate_or_go_on();
  }
  if (stage_ == Stage::ending && hiring_ < 0 && everyone([](const Peer& peer) { return peer.ended; })) {
    emit({.kind = LogKind::end, .complete = losses_ == 0 ? 1 : 0});
    stage_ = Stage::ended;
  }
}

/// Of the workers that are here; a late one keeps its own until it hears the others'.
void TokenTask::begin_statistics() {
  due_ |= updates_.boundary();               // updates may have been made since
  stage_ = Stage::statistics;
  for (Peer& peer : peers_) peer.giving = statistics_ == 0 ? Giving::given : Giving::nothing;
}

void TokenTask::finish_statistics() {
  if (statistics_ > 0) {
    std::vector<double> sums(statistics_, 0);
    int givers = 0;
    for (const Peer& peer : peers_) {
      if (peer.lost || peer.giving != Giving::given || peer.index < 0) continue;
      ++givers;
      for (std::size_t i = 0; i < statistics_; ++i) sums[i] += peer.statistics[i];
    }
    if (givers > 0) {
      averages_.resize(statistics_);
      for (std::size_t i = 0; i < statistics_; ++i) averages_[i] = static_cast<float>(sums[i] / givers);
      for (Peer& peer : peers_) peer.knows_averages = false;
      const float* from = averages_.data();
      for (const Parameters::Other& other : kept_.others()) {
        if (!other.statistic) continue;
        const auto n = static_cast<std::size_t>(other.value.elements());
        other.value.copy_from(Tensor::of(other.value.shape(), std::vector<float>(from, from + n)));
        from += n;
      }
    }
  }
  saved_ = best_ = false;
  if (due_.save()) saved_ = save(false);       // first: the validation may fail
  if (stage_ != Stage::saving) evaluate_or_go_on();
}

void TokenTask::evaluate_or_go_on() {
  if (due_.evaluation) stage_ = Stage::publishing;
  else go_on();
}

void TokenTask::begin_evaluation() {
  stage_ = Stage::evaluating;
  due_.evaluation = false;
  shares_.assign(peers_.size(), kTodo);
  evaluation_.assign(updates_.evaluation_sums(), 0);
}

/// Once nobody is at it any more. A run that goes on from here validates first.
void TokenTask::abandon_evaluation() {
  const auto at_it = [](const Peer& peer) { return !peer.lost && peer.evaluates; };
  for (int& share : shares_) share = share == kTodo ? kFinished : share;
  if (std::ranges::any_of(peers_, at_it)) return;
  due_.end = true;
  stage_ = Stage::training;                  // whatever is saved, this is over
  if (!saved_) (void)save(false);
  if (stage_ != Stage::saving) go_on();
}

void TokenTask::finish_evaluation() {
  best_ = updates_.take_evaluation(evaluation_);
  if (best_ && saved_) mark_best();
  else if (best_) (void)save(true);
  if (stage_ != Stage::saving) go_on();
}

/// The tasks write the state, and workers what error feedback has kept back, each beside it; a late worker writes nothing.
bool TokenTask::save(bool best) {
  if (!updates_.may_save(best)) return false;
  emit({.kind = LogKind::save, .best = best ? 1 : 0, .step = run_.state.step});
  tell_keepers(TokenKind::save_residuals);
  return true;
}

void TokenTask::mark_best() {
  writer_->mark_best();
  tell_keepers(TokenKind::mark_residuals);
}

/// Of residuals, if there are some.
void TokenTask::tell_keepers(TokenKind what) {
  if (!layout_.feeds_back) return;
  residuals_ = what;
  stage_ = Stage::saving;
  for (Peer& peer : peers_) peer.giving = Giving::nothing;
}

void TokenTask::go_on() {
  last_progress_ = now();
  stage_ = due_.end ? Stage::ending : Stage::training;
  if (!due_.end && updates_.phase_over()) enter_phase();
}

/// For whom everybody waits, if it is somebody.
void TokenTask::publish() {
  const double time = now();
  if (time - last_publish_ < 0.1) return;
  last_publish_ = time;
  const auto busy = std::ranges::find_if(peers_, [](const Peer& peer) { return !peer.lost && !peer.idle && !peer.ended; });
  if (busy == peers_.end() || stage_ == Stage::ended) return service_.activity().clear();
  service_.activity().publish({.operation = stage_ == Stage::evaluating ? "evaluation" : "gradients", .peer = service_.job_rank(busy->rank),
                               .step = run_.state.step, .since = last_progress_});
}

std::string TokenTask::table() const {
  std::vector<WorkerLine> lines;
  for (const Peer& peer : peers_) lines.push_back({.rank = peer.rank, .counts = counts(peer), .lost = peer.lost, .replaced = peer.life > 0});
  return updates_.table(lines);
}

}  // namespace cohort
