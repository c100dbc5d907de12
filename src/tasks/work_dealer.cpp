#include "tasks/work_dealer.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace cohort {
namespace {

constexpr double kBeat = 1;                  // seconds between two signs of life to a worker without work

}  // namespace

void WorkDealer::deal() {
  for (int worker = 0; worker < parts_.workers.size(); ++worker) {
    if (parts_.work.of(worker).lost || !parts_.work.of(worker).idle || deal_training(worker)) continue;
    const TokenWork::Facts now{.version = parts_.rules().version(), .step = parts_.run.state.step, .complete = parts_.losses == 0};
    if (const std::optional<Token> token = parts_.work.next(worker, now)) send(worker, *token);
  }
}

bool WorkDealer::deal_training(int worker) {
  const WorkerDuty& duty = parts_.work.of(worker);
  if (parts_.work.stage() != TokenWork::Stage::training || duty.index < 0 || !parts_.progress.plan().wants_more()) return false;
  const std::optional<int> share = parts_.rules().begin(duty.index);
  if (!share) return false;
  send(worker, parts_.progress.plan().training(*share));
  if (!parts_.rules().in_steps() && parts_.run.state.position.sample == 0) parts_.work.look_for_boundary();
  return true;
}

void WorkDealer::send(int worker, Token token) {
  TokenPeer& peer = parts_.workers[worker];
  parts_.work.of(worker).idle = token.kind == TokenKind::beat;
  token.skipped = std::exchange(peer.skipped, -1);
  if (token.kind == TokenKind::train) peer.version = token.version;
  token.averages = (token.kind == TokenKind::train || token.kind == TokenKind::evaluate) && !peer.knows_averages ? 1 : 0;
  peer.channel.send(token);
  if (token.averages == 0) return;
  peer.channel.send(parts_.averages);
  peer.knows_averages = true;
}

void WorkDealer::beat() {
  const double time = parts_.now();
  if (time - last_beat_ < kBeat) return;
  if (parts_.last_move >= last_beat_) {
    for (int worker = 0; worker < parts_.workers.size(); ++worker) {
      const WorkerDuty& duty = parts_.work.of(worker);
      if (!duty.lost && duty.idle && !duty.ended) send(worker, {.kind = TokenKind::beat});
    }
  }
  last_beat_ = time;
}

void WorkDealer::publish() {
  const double time = parts_.now();
  if (time - last_publish_ < 0.1) return;
  last_publish_ = time;
  const auto busy = std::ranges::find_if(parts_.work.duties(), [](const WorkerDuty& duty) { return !duty.lost && !duty.idle && !duty.ended; });
  if (busy == parts_.work.duties().end() || parts_.work.stage() == TokenWork::Stage::ended) return parts_.service.activity().clear();
  const int worker = static_cast<int>(busy - parts_.work.duties().begin());
  const bool evaluates = parts_.work.stage() == TokenWork::Stage::evaluating;
  parts_.service.activity().publish({.operation = evaluates ? "evaluation" : "gradients", .peer = parts_.service.job_rank(parts_.workers[worker].rank),
                                     .step = parts_.run.state.step, .since = parts_.last_move});
}

}  // namespace cohort
