#include "tasks/parameter_task.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace cohort {

ParameterTask::ParameterTask(Communicator& service, const TaskLayout& layout, int task, ParameterStore& store)
    : service_(service), layout_(layout), task_(task), store_(store), outbox_(service.transport()), log_in_(service.transport()) {
  for (const int rank : layout.workers) peers_.push_back(meet(service, rank, rank));
  if (task != 0) log_in_.receive(layout.tasks.front(), task_tag::kLog, &log_, sizeof log_);
}

std::unique_ptr<ParameterTask::Peer> ParameterTask::meet(Communicator& line, int at, int rank) {
  const auto t = static_cast<std::size_t>(task_);
  const std::size_t pieces = layout_.dense[t].pieces().size();
  auto peer = std::make_unique<Peer>();
  peer->rank = rank;
  peer->at = at;
  peer->header_in = Transfer(line.transport());
  peer->pull_in = Transfer(line.transport());
  peer->wire.resize(std::max(layout_.dense[t].bytes(), layout_.coded[t].bytes()));
  peer->piece_headers.resize(pieces);
  peer->value_headers.resize(pieces);
  for (std::size_t i = 0; i < 2 * pieces; ++i) peer->pieces_in.emplace_back(line.transport());
  for (std::size_t i = 0; i < 2 * pieces + 1; ++i) peer->values_out.emplace_back(line.transport());
  peer->header_in.receive(at, task_tag::kPush, &peer->header, sizeof peer->header);
  peer->pull_in.receive(at, task_tag::kPull, &peer->pull, sizeof peer->pull);
  return peer;
}

void ParameterTask::replace(int worker, Communicator& line) {
  std::unique_ptr<Peer>& peer = peers_[static_cast<std::size_t>(worker)];
  forget(*peer);
  std::unique_ptr<Peer> next = meet(line, line.size() - 1, peer->rank);
  next->life = peer->life + 1;
  former_.push_back(std::exchange(peer, std::move(next)));
  losses_ = 0;                               // it may have been lost again by now
}

const WireLayout& ParameterTask::layout_of(const Peer& peer) const {
  return (peer.header.coded != 0 ? layout_.coded : layout_.dense)[static_cast<std::size_t>(task_)];
}

bool ParameterTask::turn() {
  outbox_.progress();
  forget_lost();
  bool moved = false;
  for (int worker = 0; worker < static_cast<int>(peers_.size()); ++worker) moved = serve(worker) || moved;
  return (task_ != 0 && read_log()) || moved;
}

/// What a worker sends may be nonsense, or not fit: then it is the worker that is lost.
bool ParameterTask::serve(int worker) {
  Peer& peer = peer_of(worker);
  if (peer.lost) return false;
  try {
    const bool received = receive(worker);
    return answer(worker) || received;
  } catch (const Error& error) {
    if (!service_.membership()->may_lose(peer.rank) || error.code() != Code::data_loss) throw;
    service_.context().log.error(fmt::format("worker {} is left out: {}", worker, error.what()));
    service_.membership()->lose(peer.rank, error.what());
    if (!arrival_) outbox_.send(layout_.tasks.front(), task_tag::kAck, Ack{.number = -1, .worker = worker, .life = peer.life});
    return true;
  }
}

bool ParameterTask::receive(int worker) {
  Peer& peer = peer_of(worker);
  if (peer.stage == Stage::header && peer.header_in.done()) {
    if (peer.header.number != peer.gradients + 1) {
      fail(Code::data_loss, fmt::format("worker {} sent gradient {} to parameter task {} where {} was due", worker, peer.header.number, task_,
                                        peer.gradients + 1));
    }
    peer.gradients = peer.header.number;
    expect_pieces(peer);
  }
  if (peer.stage != Stage::pieces) return false;
  const std::size_t before = peer.arrived;
  while (peer.arrived < peer.pieces_in.size() && peer.pieces_in[peer.arrived].done()) {
    if (peer.arrived % 2 == 0) {
      const PieceHeader& header = peer.piece_headers[peer.arrived / 2];
      if (header.number != peer.gradients || header.piece != static_cast<std::int64_t>(peer.arrived / 2)) {
        fail(Code::data_loss, fmt::format("worker {} sent piece {} of gradient {} to parameter task {} where piece {} of gradient {} was due", worker,
                                          header.piece, header.number, task_, peer.arrived / 2, peer.gradients));
      }
    }
    ++peer.arrived;
  }
  if (peer.arrived == peer.pieces_in.size()) arrived(worker);
  return peer.arrived > before || peer.stage == Stage::arrived;
}

void ParameterTask::expect_pieces(Peer& peer) {
  peer.stage = Stage::pieces;
  peer.arrived = 0;
  const auto pieces = layout_of(peer).pieces();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    peer.pieces_in[2 * i].receive(peer.at, task_tag::kPush, &peer.piece_headers[i], sizeof(PieceHeader));
    peer.pieces_in[2 * i + 1].receive(peer.at, task_tag::kPush, peer.wire.data() + pieces[i].wire, pieces[i].bytes);
  }
}

void ParameterTask::arrived(int worker) {
  Peer& peer = peer_of(worker);
  peer.stage = Stage::arrived;
  if (arrival_) arrival_(worker, peer.gradients);
  else outbox_.send(layout_.tasks.front(), task_tag::kAck, Ack{.number = peer.gradients, .worker = worker, .life = peer.life});
}

/// Its memory is free for the worker's next gradient.
void ParameterTask::free(int worker, std::int64_t gradient) {
  Peer& peer = peer_of(worker);
  if (peer.stage != Stage::arrived || peer.gradients != gradient) return;
  peer.stage = Stage::header;
  if (!peer.lost) peer.header_in.receive(peer.at, task_tag::kPush, &peer.header, sizeof peer.header);
}

void ParameterTask::finish_answer(Peer& peer) {
  if (peer.reads == nullptr) return;
  while (peer.taken < peer.values_out.size() && peer.values_out[peer.taken].done()) ++peer.taken;
  if (peer.taken < peer.values_out.size()) return;
  --peer.reads->readers;
  peer.reads = nullptr;
}

bool ParameterTask::answer(int worker) {
  Peer& peer = peer_of(worker);
  finish_answer(peer);
  if (peer.reads != nullptr) return false;
  if (!peer.wants) {
    if (!peer.pull_in.done()) return false;
    const bool again = peer.pull.number == peer.pulls;         // came twice
    if (!again && peer.pull.number != peer.pulls + 1) {
      fail(Code::data_loss, fmt::format("worker {} sent parameter task {} request {} where {} was due", worker, task_,
                                        peer.pull.number, peer.pulls + 1));
    }
    peer.pulls = peer.pull.number;
    peer.wants = !again;
    if (again) peer.pull_in.receive(peer.at, task_tag::kPull, &peer.pull, sizeof peer.pull);
  }
  if (!peer.wants || store_.version() < peer.pull.version) return false;
  peer.wants = false;
  peer.reads = &snapshot();
  ++peer.reads->readers;
  store_.note_read(worker);
  peer.answer = {.number = peer.pull.number, .version = store_.version()};
  peer.taken = 0;
  peer.values_out[0].send(peer.at, task_tag::kValues, &peer.answer, sizeof peer.answer);
  const auto pieces = layout_.values[static_cast<std::size_t>(task_)].pieces();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    peer.value_headers[i] = {.number = peer.pull.number, .piece = static_cast<std::int64_t>(i)};
    peer.values_out[2 * i + 1].send(peer.at, task_tag::kValues, &peer.value_headers[i], sizeof(PieceHeader));
    peer.values_out[2 * i + 2].send(peer.at, task_tag::kValues, peer.reads->data + pieces[i].wire, pieces[i].bytes);
  }
  peer.pull_in.receive(peer.at, task_tag::kPull, &peer.pull, sizeof peer.pull);
  return true;
}

/// The current values, for all workers that ask before they change: themselves, or encoded.
ParameterTask::Snapshot& ParameterTask::snapshot() {
  const WireLayout& layout = layout_.values[static_cast<std::size_t>(task_)];
  for (Snapshot& each : snapshots_) {
    if (each.version == store_.version()) return each;
  }
  auto unused = std::ranges::find(snapshots_, 0, &Snapshot::readers);
  if (unused == snapshots_.end()) unused = snapshots_.insert(snapshots_.end(), Snapshot());
  unused->version = store_.version();
  unused->values = {};
  if (layout.plain()) {
    current_ = &*unused;
    unused->data = reinterpret_cast<const std::byte*>(store_.values());
    return *unused;
  }
  unused->wire.resize(layout.bytes());
  unused->data = unused->wire.data();
  store_.encode(layout, unused->wire.data(), {.step = store_.version(), .bucket = task_, .rank = service_.rank()});
  return *unused;
}

/// Before the values change: who reads them finishes, or, if that takes long, keeps them while they go on elsewhere.
void ParameterTask::leave_values_to_readers() {
  constexpr double kPatience = 1e-3;           // seconds: a copy of a few MiB takes as long
  if (current_ == nullptr) return;
  const Clock& clock = *service_.context().clock;
  for (const double until = clock.now() + kPatience; current_->readers > 0 && clock.now() < until;) {
    for (const auto& peer : peers_) {
      if (peer->reads == current_ && !peer->lost) finish_answer(*peer);
    }
  }
  if (current_->readers > 0) current_->values = store_.move_values();
  std::exchange(current_, nullptr)->version = -1;          // who asks from here on reads what is current then
}

void ParameterTask::check_arrived(const Peer& peer, const LogEntry& entry) {
  check(peer.stage == Stage::arrived && peer.gradients == entry.gradient, Code::internal, "the log accepts a gradient that has not arrived");
}

StepOutcome ParameterTask::follow(const LogEntry& entry) {
  switch (entry.kind) {
    case LogKind::gradient:
      return follow_gradient(entry);
    case LogKind::save:
      if (save_) save_(entry.step, entry.best != 0);
      return {};
    case LogKind::replace:
    case LogKind::join:
    case LogKind::give_up:
      if (replace_) replace_(entry.kind, entry.worker);
      return {};
    case LogKind::end:
      ended_ = true;
      complete_ = entry.complete != 0;
      return {};
  }
  fail(Code::internal, "an entry of the log of unknown kind");
}

StepOutcome ParameterTask::follow_gradient(const LogEntry& entry) {
  Peer& peer = peer_of(entry.worker);
  const StepInfo info{.step = store_.version(), .applied = entry.applied, .learning_rate = entry.rate, .previous_learning_rate = entry.previous_rate};
  if (entry.accepted != 0) check_arrived(peer, entry);
  if (entry.applies != 0) leave_values_to_readers();
  StepOutcome outcome;
  if (entry.accepted != 0 && entry.applies != 0 && entry.in_steps == 0 && layout_of(peer).plain() && store_.takes_alone()) {
    outcome = store_.apply_alone(reinterpret_cast<const float*>(peer.wire.data()), info, entry.weight * entry.sum_scale);
    free(entry.worker, entry.gradient);
    return outcome;
  }
  if (entry.accepted != 0) {
    store_.accept(entry.worker, layout_of(peer), peer.wire.data(), entry.weight,
                  {.step = peer.header.step, .bucket = task_, .rank = peer.rank});
  }
  free(entry.worker, entry.gradient);
  if (entry.applies != 0) outcome = store_.apply(info, entry.sum_scale, entry.in_steps != 0);
  return outcome;
}

bool ParameterTask::read_log() {
  bool moved = false;
  while (!ended_ && log_in_.done()) {
    moved = true;
    const LogEntry entry = log_;
    log_in_.receive(layout_.tasks.front(), task_tag::kLog, &log_, sizeof log_);
    if (entry.number == entries_) continue;       // came twice
    if (entry.number != entries_ + 1) {
      fail(Code::data_loss, fmt::format("parameter task {} got entry {} of the log where {} was due", task_, entry.number, entries_ + 1));
    }
    entries_ = entry.number;
    (void)follow(entry);
  }
  return moved;
}

void ParameterTask::forget_lost() {
  const std::size_t count = service_.membership()->count();
  if (count == losses_) return;
  losses_ = count;
  for (const auto& peer : peers_) {
    if (service_.membership()->lost(peer->rank)) forget(*peer);
  }
}

void ParameterTask::forget(Peer& peer) {
  if (peer.lost) return;
  peer.lost = true;
  if (peer.reads == nullptr) return;                       // what it reads stays as it is: the message may still be on its way
  if (std::exchange(peer.reads, nullptr) != current_) return;
  current_->values = store_.move_values();
  std::exchange(current_, nullptr)->version = -1;
}

std::int64_t ParameterTask::bytes() const noexcept {
  std::size_t bytes = 0;
  for (const auto& peer : peers_) bytes += peer->wire.size();
  for (const auto& peer : former_) bytes += peer->wire.size();
  for (const Snapshot& each : snapshots_) bytes += each.wire.size();
  return static_cast<std::int64_t>(bytes) + store_.bytes();
}

}  // namespace cohort
