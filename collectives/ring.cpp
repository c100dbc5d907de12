// ring: reduce-scatter and all-gather around a ring (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
// clusters of workstations", 2009). 2(p-1) hops of n/p floats per rank for an all-reduce, in messages of at most
// chunk_bytes that follow each other around the ring. Block b is summed in the order b+1, b+2, …, b: the same bits on all
// ranks, but an order that depends on the block. A lossy codec re-encodes at every hop of the reduce-scatter, so its error
// grows with sqrt(p); the all-gather encodes once. Each rank encodes each block once, so one residual serves both halves.

#include <algorithm>
#include <vector>

#include "cohort/comm/collective.hpp"

namespace cohort {
namespace {

enum class Pass { reduce, gather };

class RingWork final : public Work {
 public:
  RingWork(Collective& collective, Operation operation, const Bucket& bucket)
      : Work(collective, operation, bucket), chunk_(chunk_floats()) {
    std::size_t longest = 0;
    for (int rank = 0; rank < size(); ++rank) longest = std::max(longest, block(rank).size);
    chunk_ = std::max<std::size_t>(1, std::min(chunk_, (longest + kBlockUnit - 1) / kBlockUnit * kBlockUnit));
    pieces_ = static_cast<int>((longest + chunk_ - 1) / chunk_);
    depth_ = std::min(pieces_, 3);
    slot_bytes_ = codec().wire_bytes(chunk_);
    for (int i = 0; size() > 1 && i <= depth_; ++i) lanes_.emplace_back(communicator().transport(), slot_bytes_);
    if (!codec().plain() && size() > 1) wire_.resize(slot_bytes_ * static_cast<std::size_t>(pieces_ * size()));
  }

 private:
  /// Transfers and receive buffer of one message in flight each way.
  struct Lane {
    Lane(Transport& transport, std::size_t bytes) : came(bytes), in(transport), out(transport) {}
    std::vector<std::byte> came;
    Transfer in, out;         // last, so that they end before the memory that they use
  };
  struct Piece {
    Block part;                                       // of the bucket; empty in a short block: then no message travels
    std::size_t slot;                                 // where its wire bytes lie in wire_
    [[nodiscard]] bool empty() const { return part.size == 0; }
  };

  Progress run() override {
    for (const Pass pass : {Pass::reduce, Pass::gather}) {
      if (operation() == (pass == Pass::reduce ? Operation::all_gather : Operation::reduce_scatter)) continue;
      // Message i leaves once message i - pieces_ has come, since that is the same piece one hop before.
      const int messages = (size() - 1) * pieces_;
      for (int i = 0; i < messages + depth_; ++i) {
        if (i < messages) receive(pass, i);
        if (i >= depth_ && i - depth_ < messages) {
          co_await until(lane(i - depth_).in);
          take(pass, i - depth_);
        }
        if (i >= messages) continue;
        co_await until(lane(i).out);
        send(pass, i);
      }
      for (Lane& each : lanes_) co_await until(each.out);
    }
  }

  Lane& lane(int message) { return lanes_[static_cast<std::size_t>(message) % lanes_.size()]; }
  [[nodiscard]] float* at(Block part) const { return bucket().data + part.begin; }
  [[nodiscard]] float* residual_at(Block part) const {
    return bucket().residual == nullptr ? nullptr : bucket().residual + part.begin;
  }

  /// The piece that this rank sends as message `i`; what comes is what the left neighbour sends. At hop s of the
  /// reduce-scatter rank r sends block r-1-s, so that block r ends here; the all-gather begins with the own block.
  [[nodiscard]] Piece piece(Pass pass, int i, int of_rank) const {
    const int hop = i / pieces_, owner = (of_rank - (pass == Pass::reduce ? 1 : 0) - hop + 2 * size()) % size();
    const Block whole = block(owner);
    const std::size_t j = static_cast<std::size_t>(i % pieces_), begin = std::min(j * chunk_, whole.size);
    return {.part = {whole.begin + begin, std::min(chunk_, whole.size - begin)},
            .slot = static_cast<std::size_t>(owner * pieces_) + j};
  }
  [[nodiscard]] std::byte* wire(const Piece& p) { return wire_.data() + p.slot * slot_bytes_; }
  [[nodiscard]] int left() const { return (rank() + size() - 1) % size(); }

  void receive(Pass pass, int i) {
    const Piece p = piece(pass, i, left());
    if (p.empty()) return;
    std::byte* to = lane(i).came.data();
    if (pass == Pass::gather) to = codec().plain() ? reinterpret_cast<std::byte*>(at(p.part)) : wire(p);
    lane(i).in.receive(left(), tag(), to, codec().wire_bytes(p.part.size));
  }

  void take(Pass pass, int i) {
    const Piece p = piece(pass, i, left());
    if (p.empty()) return;
    const ExchangeContext where = context(p.part.begin);
    if (pass == Pass::reduce) {
      codec().decode(lane(i).came.data(), p.part.size, at(p.part), Accumulate::add, where);
    } else if (!codec().plain()) {
      codec().decode(wire(p), p.part.size, at(p.part), Accumulate::assign, where);
    }
  }

  void send(Pass pass, int i) {
    const Piece p = piece(pass, i, rank());
    if (p.empty()) return;
    const std::byte* from = codec().plain() ? reinterpret_cast<const std::byte*>(at(p.part)) : wire(p);
    if (!codec().plain() && (pass == Pass::reduce || i < pieces_)) {
      const ExchangeContext where = context(p.part.begin);
      codec().encode(at(p.part), p.part.size, wire(p), residual_at(p.part), where);
      // The owner goes on with what the others get, else the replicas drift apart.
      if (pass == Pass::gather) codec().decode(wire(p), p.part.size, at(p.part), Accumulate::assign, where);
    }
    Work::send(lane(i).out, (rank() + 1) % size(), from, p.part.size);
  }

  std::size_t chunk_;
  int pieces_ = 0;              // messages per block; every block has as many, the last ones of a short block are empty
  int depth_ = 0;               // receives that are posted ahead
  std::size_t slot_bytes_ = 0;
  std::vector<std::byte> wire_;
  std::vector<Lane> lanes_;
};

const Registered<CollectiveType> ring{"ring", {
    .summary = "reduce-scatter and all-gather around a ring: least bytes, 2(p-1) hops",
    .make = collective_of<RingWork>,
    .lossy_codecs = true,
    .error_grows = true,
    .cost = [](const CostQuery& q) {
      const int p = q.ranks();
      const double hop = q.round(q.bytes / p, [p](int rank) { return (rank + 1) % p; });
      return 2 * (p - 1) * hop + q.sum(q.bytes * (p - 1) / p);
    },
}};

}  // namespace
}  // namespace cohort
