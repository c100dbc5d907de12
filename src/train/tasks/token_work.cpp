// The token task's other half: what the workers are to do next, and what happens between updates.
#include <fmt/core.h>

#include <algorithm>

#include "train/tasks/token_task.hpp"

namespace cohort {
namespace {

constexpr int kTodo = -1, kFinished = -2;
constexpr double kBeat = 1;                  // seconds between two signs of life to a worker without work

}  // namespace

// Token -------------------------------------------------------------------------------------------------------------------------

void TokenTask::enter_phase() {
  if (rules_ != nullptr) {
    for (Peer& peer : peers_) count_earlier(peer);
    staleness_.resize(std::max(staleness_.size(), rules_->staleness().size()), 0);
    for (std::size_t s = 0; s < rules_->staleness().size(); ++s) staleness_[s] += rules_->staleness()[s];
  }
  phase_ = run_.plan.phases.at(run_.state.position.epoch);
  const TrainingPhase& phase = run_.plan.phases.phases()[phase_];
  const int wanted = phase.active(static_cast<int>(peers_.size()));
  batches_ = phase.batches(run_.plan.pipeline, static_cast<int>(peers_.size()));
  length_ = run_.length(phase);
  rules_ = phase.aggregate(wanted);
  rules_->start_at(run_.state.step);
  item_samples_ = rules_->in_steps() ? length_.update_samples : batches_.pipeline.batch * run_.plan.train.accumulate;
  int index = 0;
  for (Peer& peer : peers_) {
    if (!peer.lost && index < wanted) peer.index = index++;
  }
  for (; index < wanted; ++index) rules_->leave(index);
  pending_ = 0;
  run_.progress.set_team(run_.plan.phases.phases().size() > 1 ? fmt::format("  {} workers", wanted) : "");
}

std::int64_t TokenTask::samples_left() const {
  const std::int64_t all = run_.plan.training_data->size(), batch = BatchPlan(batches_.pipeline, rules_->in_steps() ? batches_.ways : 1).global_batch();
  return (batches_.pipeline.drop_last ? all / batch * batch : all) - run_.state.position.sample;
}

Position TokenTask::advanced(const Position& from, std::int64_t samples) const {
  return samples >= samples_left() ? Position{from.epoch + 1, 0} : Position{from.epoch, from.sample + samples};
}

/// With a limit on updates no more gradients are begun than it takes.
bool TokenTask::wants_more() const {
  const std::int64_t most = run_.plan.train.max_steps;
  if (rules_->in_steps() || most == 0) return true;
  return (most - run_.state.step) * rules_->per_update() > pending_ + rules_->under_way();
}

Token TokenTask::training_token(int share) {
  Token token{.kind = TokenKind::train, .phase = static_cast<std::int32_t>(phase_), .version = rules_->version(), .position = run_.state.position,
            .samples = std::min(item_samples_, samples_left()), .step = run_.state.step, .share = share, .shares = rules_->shares()};
  token.in_steps = rules_->in_steps() ? 1 : 0;
  if (rules_->in_steps()) return token;
  token.step = items_++;
  run_.state.position = advanced(run_.state.position, token.samples);
  return token;
}

bool TokenTask::deal_training(int worker) {
  const Peer& peer = peers_[static_cast<std::size_t>(worker)];
  if (stage_ != Stage::training || peer.index < 0 || !wants_more()) return false;
  const std::optional<int> share = rules_->begin(peer.index);
  if (!share) return false;
  send(worker, training_token(*share));
  if (!rules_->in_steps() && run_.state.position.sample == 0) look_for_boundary();
  return true;
}

void TokenTask::deal() {
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) {
    Peer& peer = peers_[static_cast<std::size_t>(worker)];
    if (peer.lost || !peer.idle || deal_training(worker)) continue;
    if (stage_ == Stage::statistics && peer.index >= 0 && peer.giving == Giving::nothing) {
      peer.giving = Giving::asked;
      send(worker, {.kind = TokenKind::give_statistics});
    } else if (stage_ == Stage::evaluating) {
      const auto share = std::ranges::find(shares_, kTodo);
      if (share == shares_.end()) continue;
      *share = worker;
      peer.share = static_cast<int>(share - shares_.begin());
      peer.evaluates = true;
      send(worker, {.kind = TokenKind::evaluate, .version = rules_->version(), .share = peer.share, .shares = static_cast<std::int32_t>(shares_.size())});
    } else if (stage_ == Stage::ending) {
      peer.ended = true;
      send(worker, {.kind = TokenKind::end, .complete = losses_ == 0 ? 1 : 0});
    }
  }
}

void TokenTask::send(int worker, Token token) {
  Peer& peer = peers_[static_cast<std::size_t>(worker)];
  peer.idle = token.kind == TokenKind::beat;
  peer.last_word = now();
  token.number = ++peer.number;
  token.averages = token.kind != TokenKind::beat && !peer.knows_averages ? 1 : 0;
  outbox_.send(peer.rank, task_tag::kToken, token);
  if (token.averages == 0) return;
  outbox_.send(peer.rank, task_tag::kAverages, std::as_bytes(std::span(averages_)));
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
  const Position& position = run_.state.position;
  const bool last = run_.over(), epoch_ended = position.sample == 0;
  const bool changes = position.epoch >= run_.plan.phases.phases()[phase_].end;
  due_end_ = last;
  due_evaluation_ = run_.plan.validation_data && !run_.result.stopped && (last || (epoch_ended && run_.validates_after(position.epoch)));
  due_save_ = last || (epoch_ended && run_.saves_after(position.epoch)) || (run_.saves_at(run_.state.step) && run_.state.step != saved_step_);
  if (last || changes || due_evaluation_ || due_save_) stage_ = Stage::draining;
}

bool TokenTask::everyone(bool (*holds)(const Peer&)) const {
  return std::ranges::all_of(peers_, [&](const Peer& peer) { return peer.lost || holds(peer); });
}

void TokenTask::advance() {
  if (stage_ == Stage::draining && (rules_->in_steps() || rules_->under_way() == 0)) begin_statistics();
  if (stage_ == Stage::statistics &&
      everyone([](const Peer& peer) { return peer.index < 0 || peer.giving == Giving::given || (peer.giving == Giving::nothing && !peer.idle); })) {
    finish_statistics();
  }
  if (stage_ == Stage::evaluating && std::ranges::all_of(shares_, [](int share) { return share == kFinished; })) finish_boundary();
  if (stage_ == Stage::ending && everyone([](const Peer& peer) { return peer.ended; })) {
    emit({.kind = LogKind::end, .complete = losses_ == 0 ? 1 : 0});
    stage_ = Stage::ended;
  }
}

/// Of the workers that are here; a late one keeps its own until it hears the others'.
void TokenTask::begin_statistics() {
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
  best_ = false;
  if (!due_evaluation_) return finish_boundary();
  begin_evaluation();
}

void TokenTask::begin_evaluation() {
  stage_ = Stage::evaluating;
  shares_.assign(peers_.size(), kTodo);
  evaluation_.assign(2 + metrics_.size(), 0);
}

void TokenTask::finish_boundary() {
  if (stage_ == Stage::evaluating) {
    Evaluation result{.loss = evaluation_[1] / evaluation_[0], .metrics = {}, .samples = static_cast<std::int64_t>(evaluation_[0])};
    for (std::size_t m = 0; m < metrics_.size(); ++m) result.metrics.emplace_back(metrics_[m], evaluation_[2 + m] / evaluation_[0]);
    best_ = run_.take_validation(result);
  }
  if (due_save_ || best_) {
    run_.saved = true;
    saved_step_ = run_.state.step;
    for (const auto& writer : run_.metrics) writer->flush();
    emit({.kind = LogKind::save, .best = best_ ? 1 : 0, .step = run_.state.step});
  }
  last_progress_ = now();
  stage_ = due_end_ ? Stage::ending : Stage::training;
  if (due_end_ || run_.state.position.epoch < run_.plan.phases.phases()[phase_].end) return;
  enter_phase();
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
  std::string text = "worker   rank    applied   dropped    waited\n";
  for (std::size_t worker = 0; worker < peers_.size(); ++worker) {
    const Peer& peer = peers_[worker];
    WorkerCounts counts = peer.before;
    if (peer.index >= 0) {
      const WorkerCounts& more = rules_->counts()[static_cast<std::size_t>(peer.index)];
      counts.applied += more.applied, counts.dropped += more.dropped, counts.waited += more.waited;
    }
    text += fmt::format("{:>6} {:>6} {:>10} {:>9} {:>9}{}\n", worker, peer.rank, counts.applied, counts.dropped, counts.waited, peer.lost ? "   lost" : "");
  }
  std::vector<std::int64_t> staleness = staleness_;
  staleness.resize(std::max(staleness.size(), rules_->staleness().size()), 0);
  for (std::size_t s = 0; s < rules_->staleness().size(); ++s) staleness[s] += rules_->staleness()[s];
  text += "staleness";
  for (std::size_t s = 0; s < staleness.size(); ++s) {
    if (staleness[s] > 0) text += fmt::format("  {}: {}", s, staleness[s]);
  }
  return text;
}

}  // namespace cohort
