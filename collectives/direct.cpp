// direct: every rank sends every owner its share and every rank its sum. 2(p-1)/p·n floats per rank in two rounds; sums in
// rank order on any number of nodes, and each value goes through the codec once per half.
//
// Shares travel in pieces: piece j to the next rank, to the one after it, and so on, then piece j+1. A rank sends only so
// far ahead of what has come to it, since p-1 ranks that sent to one at once would overrun the queue of its line. Short
// shares all leave at once.

#include <algorithm>
#include <vector>

#include "cohort/comm/collective.hpp"

namespace cohort {
namespace {

enum class Half { reduce, gather };

class DirectWork final : public Work {
 public:
  DirectWork(Collective& collective, Operation operation, const Bucket& bucket) : Work(collective, operation, bucket) {
    if (size() == 1) return;
    std::size_t longest = 0;
    for (int r = 0; r < size(); ++r) longest = std::max(longest, block(r).size);
    chunk_ = std::max<std::size_t>(1, std::min(chunk_floats(), (longest + kBlockUnit - 1) / kBlockUnit * kBlockUnit));
    rows_ = (longest + chunk_ - 1) / chunk_;
    slot_bytes_ = codec().wire_bytes(chunk_);
    ahead_ = std::min(messages_ahead(slot_bytes_), std::max<std::size_t>(1, messages()));
    for (std::size_t i = 0; i < 2 * ahead_; ++i) lanes_.emplace_back(communicator().transport());
    came_wire_.resize(slot_bytes_ * messages());
    sent_wire_.resize(codec().plain() ? 0 : slot_bytes_ * messages());
    own_.resize(chunk_);
  }

 private:
  /// Transfers of one message in flight each way.
  struct Lane {
    explicit Lane(Transport& transport) : in(transport), out(transport) {}
    Transfer in, out;
  };

  Progress run() override {
    for (const Half half : {Half::reduce, Half::gather}) {
      if (size() == 1 || operation() == (half == Half::reduce ? Operation::all_gather : Operation::reduce_scatter)) continue;
      half_ = half;
      asked_ = came_ = sent_ = gone_ = 0;
      if (half == Half::gather) publish();
      co_await until([this] { return advance_half(); }, [this] { return came_ < messages() ? from(came_) : -1; });
    }
  }

  // Message i is piece i / (p-1) for, or from, the partner that is i % (p-1) + 1 ranks away.
  [[nodiscard]] std::size_t partners() const { return static_cast<std::size_t>(size() - 1); }
  [[nodiscard]] std::size_t messages() const { return rows_ * partners(); }
  [[nodiscard]] int away(std::size_t i) const { return static_cast<int>(i % partners()) + 1; }
  [[nodiscard]] int to(std::size_t i) const { return (rank() + away(i)) % size(); }
  [[nodiscard]] int from(std::size_t i) const { return (rank() + size() - away(i)) % size(); }

  /// Of an owner's block; empty where the block is shorter than others: then no message travels.
  [[nodiscard]] Block piece(int owner, std::size_t row) const {
    const Block whole = block(owner);
    const std::size_t begin = std::min(row * chunk_, whole.size);
    return {whole.begin + begin, std::min(chunk_, whole.size - begin)};
  }
  [[nodiscard]] Block incoming(std::size_t i) const { return piece(half_ == Half::reduce ? rank() : from(i), i / partners()); }
  [[nodiscard]] Block outgoing(std::size_t i) const { return piece(half_ == Half::reduce ? to(i) : rank(), i / partners()); }

  bool advance_half() {
    while (asked_ < messages() && asked_ < came_ + lanes_.size()) receive(asked_++);
    while (gone_ < sent_ && lane(gone_).out.done()) ++gone_;
    while (sent_ < messages() && sent_ < came_ + ahead_ && sent_ < gone_ + lanes_.size()) send(sent_++);
    if (came_ < asked_ && lane(came_).in.done()) {
      if (half_ == Half::gather) take(came_);
      if (++came_ % partners() == 0 && half_ == Half::reduce) sum(came_ / partners() - 1);
      return false;   // a breath after each piece
    }
    return came_ == messages() && gone_ == messages();
  }

  void receive(std::size_t i) {
    const Block part = incoming(i);
    if (part.size == 0) return;
    std::byte* where = half_ == Half::gather && codec().plain() ? bytes_at(part) : came_wire_.data() + i * slot_bytes_;
    lane(i).in.receive(from(i), tag(), where, codec().wire_bytes(part.size));
  }

  void send(std::size_t i) {
    const Block part = outgoing(i);
    if (part.size == 0) return;
    const std::size_t slot = half_ == Half::reduce ? i : i / partners();   // what publish() has written goes to all
    std::byte* wire = codec().plain() ? bytes_at(part) : sent_wire_.data() + slot * slot_bytes_;
    if (half_ == Half::reduce && !codec().plain()) {
      codec().encode(at(part), part.size, wire, residual(part), context(part.begin));
    }
    Work::send(lane(i).out, to(i), wire, part.size);
  }

  void take(std::size_t i) {
    const Block part = incoming(i);
    if (part.size == 0 || codec().plain()) return;
    codec().decode(came_wire_.data() + i * slot_bytes_, part.size, at(part), Accumulate::assign, context(part.begin));
  }

  /// Adds all ranks' pieces of this row to mine, in the order of ranks.
  void sum(std::size_t row) {
    const Block part = piece(rank(), row);
    if (part.size == 0) return;
    float* total = at(part);
    std::copy_n(total, part.size, own_.begin());
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) {
        for (std::size_t i = 0; r > 0 && i < part.size; ++i) total[i] += own_[i];   // as the first it is there
        continue;
      }
      const auto distance = static_cast<std::size_t>((rank() + size() - r) % size());
      const std::byte* wire = came_wire_.data() + (row * partners() + distance - 1) * slot_bytes_;
      codec().decode(wire, part.size, total, r == 0 ? Accumulate::assign : Accumulate::add, context(part.begin));
    }
  }

  /// Fixes how my block travels; this rank goes on with what the others get.
  void publish() {
    for (std::size_t row = 0; row < rows_ && !codec().plain(); ++row) {
      const Block part = piece(rank(), row);
      std::byte* wire = sent_wire_.data() + row * slot_bytes_;
      if (part.size == 0) continue;
      codec().encode(at(part), part.size, wire, residual(part), context(part.begin));
      codec().decode(wire, part.size, at(part), Accumulate::assign, context(part.begin));
    }
  }

  [[nodiscard]] Lane& lane(std::size_t message) { return lanes_[message % lanes_.size()]; }
  [[nodiscard]] float* at(Block part) const { return bucket().data + part.begin; }
  [[nodiscard]] std::byte* bytes_at(Block part) const { return reinterpret_cast<std::byte*>(at(part)); }
  [[nodiscard]] float* residual(Block part) const {
    return bucket().residual == nullptr ? nullptr : bucket().residual + part.begin;
  }

  std::size_t chunk_ = 1, rows_ = 0;                             // floats of a piece, pieces of a block
  std::size_t slot_bytes_ = 0, ahead_ = 1;                       // of a piece on the wire; messages sent ahead of those that came
  Half half_ = Half::reduce;
  std::size_t asked_ = 0, came_ = 0, sent_ = 0, gone_ = 0;       // messages before these: receives posted, …, sent, gone
  std::vector<float> own_;                                       // a piece
  std::vector<std::byte> came_wire_, sent_wire_;                 // a slot per message
  std::vector<Lane> lanes_;                                      // last, so that they end before the memory that they use
};

/// Messages of a half do not wait for each other: one latency, and a part of it for each further one, which the processor
/// begins.
double cost(const CostQuery& q) {
  constexpr double kBegin = 0.2;
  const int p = q.ranks();
  const double share = q.bytes / p * q.wire;
  double half = 0;
  for (int node = 0; node < q.nodes->nodes(); ++node) {
    const auto here = static_cast<double>(q.nodes->ranks_of(node).size());
    const LinkConstants &within = q.network->within, &between = q.network->between;
    const double inside = (here - 1) * (share * within.seconds_per_byte + kBegin * within.latency);
    const double outside = here * (p - here) * share * between.seconds_per_byte + (p - here) * kBegin * between.latency;
    half = std::max(half, std::max(inside, outside) + (p > here ? between.latency : here > 1 ? within.latency : 0));
  }
  return 2 * half + q.sum(q.bytes * (p - 1) / p);
}

const Registered<CollectiveType> direct{"direct", {
    .summary = "all to all: two rounds, sums in rank order on any number of nodes",
    .make = collective_of<DirectWork>,
    .rank_order = true,
    .lossy_codecs = true,
    .cost = cost,
}};

}  // namespace
}  // namespace cohort
