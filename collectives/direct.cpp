// direct: every rank sends every owner its share and every rank its sum. 2(p-1) messages of n/p floats per rank in two
// rounds; sums in rank order on any number of nodes, and each value goes through the codec once per half.

#include <algorithm>
#include <vector>

#include "cohort/comm/collective.hpp"

namespace cohort {
namespace {

class DirectWork final : public Work {
 public:
  DirectWork(Collective& collective, Operation operation, const Bucket& bucket) : Work(collective, operation, bucket) {
    for (int r = 0; r < size(); ++r) peers_.emplace_back(communicator().transport(), bytes(rank()), bytes(r));
    own_.resize(mine().size);
    wire_.resize(bytes(rank()));
  }

 private:
  struct Peer {
    Peer(Transport& t, std::size_t mine, std::size_t theirs) : my_wire(mine), their_wire(theirs), in(t), out(t) {}
    std::vector<std::byte> my_wire, their_wire;   // of my block, of theirs
    Transfer in, out;                             // last, so that they end before the memory that they use
  };

  Progress run() override {
    if (operation() != Operation::all_gather) {
      for (int i = 1; i < size(); ++i) exchange_shares((rank() + i) % size());
      std::copy_n(at(rank()), own_.size(), own_.begin());
      for (int r = 0; r < size(); ++r) {
        co_await until(peer(r).in);
        add(r);
      }
      for (Peer& each : peers_) co_await until(each.out);
    }
    if (operation() == Operation::reduce_scatter || size() == 1) co_return;
    codec().encode(at(rank()), own_.size(), wire_.data(), residual(rank()), context(mine().begin));
    // The owner goes on with what the others get.
    codec().decode(wire_.data(), own_.size(), at(rank()), Accumulate::assign, context(mine().begin));
    for (int i = 1; i < size(); ++i) {
      const int to = (rank() + i) % size();
      peer(to).in.receive(to, tag(), peer(to).their_wire.data(), bytes(to));
      peer(to).out.send(to, tag(), wire_.data(), bytes(rank()));
    }
    for (int r = 0; r < size(); ++r) {
      co_await until(peer(r).in);
      if (r == rank()) continue;
      codec().decode(peer(r).their_wire.data(), block(r).size, at(r), Accumulate::assign, context(block(r).begin));
    }
    for (Peer& each : peers_) co_await until(each.out);
  }

  void exchange_shares(int to) {
    Peer& p = peer(to);
    codec().encode(at(to), block(to).size, p.their_wire.data(), residual(to), context(block(to).begin));
    p.in.receive(to, tag(), p.my_wire.data(), bytes(rank()));
    p.out.send(to, tag(), p.their_wire.data(), bytes(to));
  }

  void add(int r) {
    const Accumulate how = r == 0 ? Accumulate::assign : Accumulate::add;
    float* sum = at(rank());
    if (r != rank()) return codec().decode(peer(r).my_wire.data(), own_.size(), sum, how, context(mine().begin));
    if (r == 0) return;   // the sum begins with it, and it is still there
    for (std::size_t i = 0; i < own_.size(); ++i) sum[i] += own_[i];
  }

  [[nodiscard]] Block mine() const { return block(rank()); }
  [[nodiscard]] std::size_t bytes(int owner) const { return codec().wire_bytes(block(owner).size); }
  [[nodiscard]] Peer& peer(int r) { return peers_[static_cast<std::size_t>(r)]; }
  [[nodiscard]] float* at(int owner) const { return bucket().data + block(owner).begin; }
  [[nodiscard]] float* residual(int owner) const {
    return bucket().residual == nullptr ? nullptr : bucket().residual + block(owner).begin;
  }

  std::vector<float> own_;
  std::vector<std::byte> wire_;    // of the sum of my block, sent to all
  std::vector<Peer> peers_;        // last, like the transfers in it
};

/// All messages of a half leave at once: one latency, and a part of it for each further message, which the processor begins.
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
