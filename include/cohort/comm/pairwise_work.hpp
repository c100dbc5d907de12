#pragma once

#include <bit>
#include <cstddef>
#include <vector>

#include "cohort/comm/collective.hpp"

namespace cohort {

/// How any number of ranks is folded to a power of two: of p ranks, q = 2^floor(log2 p) take part in rounds that double or
/// halve, the actors 0 … q-1. The first 2(p-q) ranks are p-q pairs of neighbours, of which the odd one is an extra: it hands
/// its input to the actor before it and gets its result from it. So actors are in the order of ranks, and the blocks that
/// an actor and its extra own are consecutive.
class Folding {
 public:
  explicit Folding(int ranks) noexcept
      : actors_(static_cast<int>(std::bit_floor(static_cast<unsigned>(ranks)))), extras_(ranks - actors_) {}
  [[nodiscard]] int actors() const noexcept { return actors_; }
  [[nodiscard]] int extras() const noexcept { return extras_; }
  [[nodiscard]] bool is_extra(int rank) const noexcept { return rank < 2 * extras_ && rank % 2 == 1; }
  [[nodiscard]] bool has_extra(int rank) const noexcept { return rank < 2 * extras_ && rank % 2 == 0; }
  [[nodiscard]] int actor_of(int rank) const noexcept { return rank < 2 * extras_ ? rank / 2 : rank - extras_; }
  [[nodiscard]] int rank_of(int actor) const noexcept { return actor < extras_ ? 2 * actor : actor + extras_; }
  /// Whom an extra hands its input to; -1 for an actor.
  [[nodiscard]] int actor_beside(int rank) const noexcept { return is_extra(rank) ? rank - 1 : -1; }
  /// The rank of the actor at this power of two from that of `rank`; -1 for an extra.
  [[nodiscard]] int across(int rank, int width) const noexcept {
    return is_extra(rank) ? -1 : rank_of(actor_of(rank) ^ width);
  }

 private:
  int actors_, extras_;
};

/// For algorithms in which a rank talks to one other rank at a time, in rounds: what two ranks swap, in pieces of at most
/// chunk_bytes that follow each other.
class PairwiseWork : public Work {
 public:
  PairwiseWork(Collective& collective, Operation operation, const Bucket& bucket);

 protected:
  /// Pieces [first, last) of the bucket. No piece crosses the end of a block.
  struct Pieces {
    std::size_t first = 0, last = 0;
    [[nodiscard]] bool has(std::size_t piece) const noexcept { return first <= piece && piece < last; }
  };
  [[nodiscard]] Pieces all() const noexcept { return {0, pieces_.size()}; }
  /// Those of the blocks that ranks [first, last) own.
  [[nodiscard]] Pieces of_ranks(int first, int last) const;
  /// Those of the blocks that actors [first, last) and their extras own.
  [[nodiscard]] Pieces of_actors(int first, int last) const { return of_ranks(folding_.rank_of(first), folding_.rank_of(last)); }

  [[nodiscard]] const Folding& folding() const noexcept { return folding_; }

  /// Sends `out` to `peer` and adds what comes to `in`; the two may be the same pieces. Ends when all has gone and come.
  [[nodiscard]] auto swap_sums(int peer, Pieces out, Pieces in) {
    begin_swap(peer, out, in, Accumulate::add);
    return until([this] { return advance_swap(); }, [this] { return swap_.peer; });
  }
  /// The same where results travel: `out` has been published here or has come by another swap, `in` takes what comes.
  [[nodiscard]] auto swap_results(int peer, Pieces out, Pieces in) {
    begin_swap(peer, out, in, Accumulate::assign);
    return until([this] { return advance_swap(); }, [this] { return swap_.peer; });
  }
  /// Makes these pieces results: fixes how they travel, and goes on with what the others will get.
  void publish(Pieces pieces);

 private:
  struct Piece {
    Block part;
    std::size_t wire;                       // where it lies in wire_
  };
  /// Transfers of one message in flight each way, and where a sum's addend arrives.
  struct Lane {
    Lane(Transport& transport, std::size_t bytes) : came(bytes), in(transport), out(transport) {}
    std::vector<std::byte> came;
    Transfer in, out;                       // last, so that they end before the memory that they use
  };
  struct Swap {
    int peer = -1;
    Pieces out, in;
    Accumulate how = Accumulate::add;
    std::size_t sent = 0, gone = 0;         // pieces before these have been begun to send, have been sent
    std::size_t awaited = 0, taken = 0;     // receives begun, pieces taken
  };

  void begin_swap(int peer, Pieces out, Pieces in, Accumulate how) noexcept;
  bool advance_swap();
  [[nodiscard]] bool may_take() const noexcept;
  [[nodiscard]] bool may_send() const noexcept;
  void receive(std::size_t piece);
  void take(std::size_t piece);
  void send(std::size_t piece);
  [[nodiscard]] Lane& lane(std::size_t piece) { return lanes_[piece % lanes_.size()]; }
  [[nodiscard]] float* at(Block part) const { return bucket().data + part.begin; }
  [[nodiscard]] std::byte* wire(const Piece& piece) {
    return codec().plain() ? reinterpret_cast<std::byte*>(at(piece.part)) : wire_.data() + piece.wire;
  }
  void encode(const Piece& piece);

  Folding folding_;
  std::vector<Piece> pieces_;
  std::vector<std::size_t> first_piece_;    // of each rank's block; one more at the end
  std::vector<std::byte> wire_;             // of the whole bucket; empty if floats travel as they lie
  Swap swap_;
  std::size_t ahead_ = 1;                   // pieces sent ahead of those taken
  std::vector<Lane> lanes_;
};

}  // namespace cohort
