#include "cohort/comm/pairwise_work.hpp"

#include <algorithm>

namespace cohort {

PairwiseWork::PairwiseWork(Collective& collective, Operation operation, const Bucket& bucket)
    : Work(collective, operation, bucket), folding_(size()) {
  const std::size_t chunk = chunk_floats();
  std::size_t wire = 0, longest = 0;
  for (int owner = 0; owner < size(); ++owner) {
    first_piece_.push_back(pieces_.size());
    for (std::size_t begin = block(owner).begin; begin < block(owner).end(); begin += chunk) {
      const Block part{begin, std::min(chunk, block(owner).end() - begin)};
      pieces_.push_back({.part = part, .wire = wire});
      wire += codec().wire_bytes(part.size);
      longest = std::max(longest, part.size);
    }
  }
  first_piece_.push_back(pieces_.size());
  if (size() == 1) return;
  if (!codec().plain()) wire_.resize(wire);
  const std::size_t addend = operation == Operation::all_gather ? 0 : codec().wire_bytes(longest);
  ahead_ = std::min(messages_ahead(codec().wire_bytes(longest)), std::max<std::size_t>(1, pieces_.size()));
  for (std::size_t i = 0; i < 2 * ahead_; ++i) lanes_.emplace_back(communicator().transport(), addend);
}

PairwiseWork::Pieces PairwiseWork::of_ranks(int first, int last) const {
  return {first_piece_[static_cast<std::size_t>(first)], first_piece_[static_cast<std::size_t>(last)]};
}

void PairwiseWork::encode(const Piece& piece) {
  if (codec().plain()) return;
  float* residual = bucket().residual == nullptr ? nullptr : bucket().residual + piece.part.begin;
  codec().encode(at(piece.part), piece.part.size, wire(piece), residual, context(piece.part.begin));
}

void PairwiseWork::publish(Pieces pieces) {
  if (codec().plain()) return;
  for (std::size_t i = pieces.first; i < pieces.last; ++i) {
    const Piece& piece = pieces_[i];
    encode(piece);
    codec().decode(wire(piece), piece.part.size, at(piece.part), Accumulate::assign, context(piece.part.begin));
  }
}

void PairwiseWork::receive(std::size_t piece) {
  const Piece& p = pieces_[piece];
  std::byte* to = swap_.how == Accumulate::add ? lane(piece).came.data() : wire(p);
  lane(piece).in.receive(swap_.peer, tag(), to, codec().wire_bytes(p.part.size));
}

void PairwiseWork::send(std::size_t piece) {
  const Piece& p = pieces_[piece];
  if (swap_.how == Accumulate::add) encode(p);
  Work::send(lane(piece).out, swap_.peer, wire(p), p.part.size);
}

void PairwiseWork::take(std::size_t piece) {
  const Piece& p = pieces_[piece];
  if (swap_.how == Accumulate::add) {
    codec().decode(lane(piece).came.data(), p.part.size, at(p.part), Accumulate::add, context(p.part.begin));
  } else if (!codec().plain()) {
    codec().decode(wire(p), p.part.size, at(p.part), Accumulate::assign, context(p.part.begin));
  }
}

void PairwiseWork::begin_swap(int peer, Pieces out, Pieces in, Accumulate how) noexcept {
  swap_ = {.peer = peer, .out = out, .in = in, .how = how, .sent = out.first, .gone = out.first, .awaited = in.first,
           .taken = in.first};
}

/// A sum must not change what is still being sent.
bool PairwiseWork::may_take() const noexcept {
  return !swap_.out.has(swap_.taken) || swap_.taken < swap_.gone;
}

/// Not too far ahead of the peer, if it sends as well.
bool PairwiseWork::may_send() const noexcept {
  return swap_.taken == swap_.in.last || swap_.sent - swap_.out.first < swap_.taken - swap_.in.first + ahead_;
}

bool PairwiseWork::advance_swap() {
  Swap& s = swap_;
  while (true) {
    while (s.awaited < s.in.last && s.awaited - s.taken < lanes_.size()) receive(s.awaited++);
    while (s.gone < s.sent && lane(s.gone).out.done()) ++s.gone;
    while (s.sent < s.out.last && s.sent - s.gone < lanes_.size() && may_send()) send(s.sent++);
    // First drive the transfer: the peer's send may end only then, and mine only when the peer does the same.
    if (s.taken == s.awaited || !lane(s.taken).in.done() || !may_take()) break;
    take(s.taken++);
    if (s.taken < s.in.last) return false;   // a breath after each piece
  }
  return s.taken == s.in.last && s.gone == s.out.last;
}

}  // namespace cohort
