// hierarchical: the ranks of a node sum in memory that all of them see, the nodes sum among themselves with any other
// algorithm, and the ranks copy the result out of the memory of their node. A bucket is cut into lanes, as many as the
// smallest node has ranks; lane j travels between the j-th ranks of all nodes, so that all ranks of a node feed its line and
// each moves 1/lanes of what a single rank per node would: 2(M-1)/M·n floats per node of M, whatever the number of ranks.
// Within a node no payload travels as a message: n floats are read for the sums and n copied, per rank.
//
// Buckets outside the collective's memory are staged. For an all-reduce the lanes lie in the buckets themselves. For a
// reduce-scatter or all-gather each has memory of its own, in which the blocks of a node's ranks lie together (padded where
// nodes differ), since between nodes a block is what one node owns.
//
// Sums within a node are in rank order, then nodes are added: the same bits everywhere, but not the order of all ranks. A
// lossy codec only serves between nodes. An element is encoded by the rank in whose lane it is, with that rank's residual.

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/node_memory.hpp"
#include "cohort/comm/sums.hpp"

namespace cohort {
namespace {

constexpr std::size_t kBreath = 64 * 1024;   // floats between two breaths: some 50 µs

class Hierarchical final : public Collective {
 public:
  Hierarchical(Communicator& c, const CollectiveOptions& options)
      : Collective(c, options),
        node_(communicator().split(nodes().node_of(communicator().rank()), communicator().rank())), memory_(node_) {
    check(options.inter != "hierarchical", Code::invalid_argument,
          "collective 'hierarchical': inter must name another algorithm, or auto");
    lanes_ = node_.size();
    for (int node = 0; node < nodes().nodes(); ++node) lanes_ = std::min(lanes_, static_cast<int>(nodes().ranks_of(node).size()));
    const bool in_lane = node_.rank() < lanes_;
    const int me = communicator().rank();
    Communicator lane = communicator().split(in_lane ? node_.rank() : lanes_ + me, nodes().node_of(me));   // in the nodes' order
    if (!in_lane || nodes().nodes() == 1) return;
    for (int node = 0; node < nodes().nodes(); ++node) {
      lane_ranks_.push_back(nodes().ranks_of(node)[static_cast<std::size_t>(node_.rank())]);
    }
    CollectiveOptions between = options;
    between.algorithm = options.inter;
    between_ = make_collective(lane, between);
  }
  Buffer allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  std::string describe() const override {
    return Collective::describe() + (between_ != nullptr ? ", between nodes " + between_->describe() : "");
  }

  [[nodiscard]] const NodeMap& nodes() { return communicator().nodes(); }
  [[nodiscard]] Communicator& node() noexcept { return node_; }
  [[nodiscard]] NodeMemory& memory() noexcept { return memory_; }
  [[nodiscard]] int lanes() const noexcept { return lanes_; }
  /// The ranks of my lane, node by node.
  [[nodiscard]] const std::vector<int>& lane_ranks() const noexcept { return lane_ranks_; }
  [[nodiscard]] Collective* between() noexcept { return between_.get(); }

  /// Works come to the nodes' turn in the order of their start, which is the same on all ranks.
  std::uint64_t last_ticket = 0, turn = 1;

 protected:
  std::unique_ptr<Work> make_work(Operation operation, const Bucket& bucket) override;

 private:
  Communicator node_;
  NodeMemory memory_;
  int lanes_ = 1;
  std::vector<int> lane_ranks_;
  std::unique_ptr<Collective> between_;   // over the ranks of my lane; null on a rank without one
};

class HierarchicalWork final : public Work {
 public:
  HierarchicalWork(Hierarchical& h, Operation operation, const Bucket& bucket)
      : Work(h, operation, bucket), h_(h), barrier_(h.memory().make_barrier()) {
    const std::size_t bytes = bucket.n * sizeof(float);
    place_ = h.memory().find(bucket.data, bytes);
    if (!alike()) return;
    if (staged_) {
      stage_ = h.memory().allocate(bytes);
      place_ = h.memory().find(stage_.memory.get(), bytes);
    }
    for (int r = 0; r < h.node().size(); ++r) ranks_.push_back(reinterpret_cast<float*>(h.memory().address(place_, r)));
    if (in_place()) cut_in_place();
    else cut_by_nodes();
    if (h.between() != nullptr) prepare_between();
  }

  Traffic sent() const noexcept override { return between_ != nullptr ? between_->sent() : Traffic{}; }

 protected:
  std::uint64_t layout() const noexcept override {
    return static_cast<std::uint64_t>(place_.allocation) << 48 ^ place_.offset;
  }

 private:
  /// Elements that lie together in the bucket and in a lane.
  struct Piece {
    Block part;          // of the bucket
    int lane;
    std::size_t at;      // in the lane's memory
    int owner;           // rank whose block it is of; for an all-reduce -1
    int summer;          // rank of the node that sums it
  };

  [[nodiscard]] bool in_place() const noexcept { return operation() == Operation::all_reduce; }
  [[nodiscard]] bool in_lane() const noexcept { return local() < h_.lanes(); }
  [[nodiscard]] int local() const noexcept { return h_.node().rank(); }
  [[nodiscard]] float* own() const { return ranks_[static_cast<std::size_t>(local())]; }
  [[nodiscard]] float* at(const Piece& p) const { return lane_data_[static_cast<std::size_t>(p.lane)] + p.at; }

  /// Whether all ranks prepare the same: else nothing more is made here together, and the start will find out who differs.
  bool alike() {
    struct Wanted {
      Operation operation;
      bool staged;
      std::size_t n;
    };
    bool same = true;
    for (const Wanted& each : all_gather_value(communicator(), Wanted{operation(), place_.allocation < 0, bucket().n})) {
      same = same && each.operation == operation() && each.n == bucket().n;
      staged_ = staged_ || each.staged;
    }
    return same;
  }

  /// Lane j is the j-th block of as many as there are lanes; each rank of the node sums an equal share.
  void cut_in_place() {
    const int lanes = h_.lanes(), locals = h_.node().size();
    for (int lane = 0; lane < lanes; ++lane) {
      const Block slice = block_of(lane, lanes, bucket().n);
      lane_data_.push_back(ranks_[static_cast<std::size_t>(lane)] + slice.begin);
      if (lane == local()) lane_n_ = slice.size;
      for (int summer = 0; summer < locals; ++summer) {
        const Block share = block_of(summer, locals, bucket().n);
        const std::size_t begin = std::max(slice.begin, share.begin), end = std::min(slice.end(), share.end());
        if (begin >= end) continue;
        pieces_.push_back({.part = {begin, end - begin}, .lane = lane, .at = begin - slice.begin, .owner = -1, .summer = summer});
      }
    }
  }

  /// A lane has a segment per node, all of the same length, so that the nodes' blocks of the lane are these segments.
  void cut_by_nodes() {
    const NodeMap& nodes = h_.nodes();
    const auto lanes = static_cast<std::size_t>(h_.lanes());
    std::size_t most = 0;
    for (int node = 0; node < nodes.nodes(); ++node) {
      std::size_t sum = 0;
      for (const int rank : nodes.ranks_of(node)) sum += block(rank).size;
      most = std::max(most, sum);
    }
    const std::size_t segment = (most + lanes * kBlockUnit - 1) / (lanes * kBlockUnit) * kBlockUnit;
    lane_n_ = segment * static_cast<std::size_t>(nodes.nodes());
    lane_memory_ = h_.memory().allocate(lane_n_ * sizeof(float));
    const NodeMemory::Place place = h_.memory().find(lane_memory_.memory.get(), lane_memory_.bytes);
    for (int lane = 0; lane < h_.lanes(); ++lane) {
      lane_data_.push_back(reinterpret_cast<float*>(h_.memory().address(place, lane)));
    }
    for (int node = 0; node < nodes.nodes(); ++node) {
      std::size_t next = 0;                                       // of the node's elements, one block after the other
      for (const int rank : nodes.ranks_of(node)) next = cut_block(rank, static_cast<std::size_t>(node) * segment, segment, next);
    }
  }

  std::size_t cut_block(int owner, std::size_t segment_begin, std::size_t segment, std::size_t next) {
    for (std::size_t done = 0; done < block(owner).size;) {
      const std::size_t count = std::min(block(owner).size - done, segment - next % segment);
      const int lane = static_cast<int>(next / segment), locals = h_.node().size();
      pieces_.push_back({.part = {block(owner).begin + done, count}, .lane = lane, .at = segment_begin + next % segment,
                         .owner = owner, .summer = locals == h_.lanes() ? lane : static_cast<int>(pieces_.size()) % locals});
      next += count;
      done += count;
    }
    return next;
  }

  void prepare_between() {
    Bucket lane{.id = bucket().id, .data = lane_data_[static_cast<std::size_t>(local())], .n = lane_n_, .dtype = bucket().dtype,
                .codec = &codec()};
    if (bucket().residual != nullptr && !codec().exact()) {
      residual_.resize(lane_n_);
      lane.residual = residual_.data();
    }
    between_ = &h_.between()->prepare(operation(), lane);
  }

  void begin() override {
    const Block input = operation() == Operation::all_gather ? block(rank()) : Block{0, bucket().n};
    if (stage_.bytes > 0 && input.size > 0) std::memcpy(own() + input.begin, bucket().data + input.begin, input.size * sizeof(float));
    if (between_ != nullptr) ticket_ = ++h_.last_ticket;
    barrier_.arrive();
  }

  auto all_there() {
    return until([this] { return barrier_.all_there(); }, [this] {
      const int missing = barrier_.missing();
      return missing < 0 ? -1 : h_.nodes().ranks_of(h_.nodes().node_of(rank()))[static_cast<std::size_t>(missing)];
    });
  }
  auto my_turn() {
    return until([this] { return h_.turn == ticket_; });
  }
  auto between_done() {
    return until([this] { return between_->advance(); }, [this] {
      const int number = between_->status().peer;
      return number < 0 ? -1 : h_.lane_ranks()[static_cast<std::size_t>(number)];
    });
  }
  Progress run() override {
    const bool gathers = operation() == Operation::all_gather, one_rank = h_.node().size() == 1;
    co_await all_there();   // they are, says the agreement; looking at the counters makes what they wrote visible here
    for (const Piece& p : pieces_) {
      if (gathers ? p.owner != rank() : p.summer != local()) continue;
      for (std::size_t done = 0; done < p.part.size; done += kBreath) {
        fill(p, done, std::min(kBreath, p.part.size - done));
        co_await breath();
      }
    }
    if (gathers || h_.node().size() != h_.lanes()) {   // else each rank has filled its own lane
      barrier_.arrive();
      co_await all_there();
    }
    if (between_ != nullptr) {
      co_await my_turn();
      copy_residual(true);
      between_->start(step());
      ++h_.turn;
      co_await between_done();
      copy_residual(false);
    }
    barrier_.arrive();
    co_await all_there();
    for (const Piece& p : pieces_) {
      if (operation() == Operation::reduce_scatter && p.owner != rank()) continue;
      float* to = bucket().data + p.part.begin;
      for (std::size_t done = 0; to != at(p) && done < p.part.size; done += kBreath) {
        std::memcpy(to + done, at(p) + done, std::min(kBreath, p.part.size - done) * sizeof(float));
        co_await breath();
      }
    }
    if (!in_place() || one_rank) co_return;
    barrier_.arrive();      // nobody reads my lane any more, so the next input may be written
    co_await all_there();
  }

  /// Writes the node's part of a lane: the sum of its ranks, or for an all-gather the block.
  void fill(const Piece& p, std::size_t done, std::size_t count) {
    if (operation() == Operation::all_gather) {
      std::memcpy(at(p) + done, own() + p.part.begin + done, count * sizeof(float));
    } else if (ranks_.size() > 1 || !in_place()) {
      sum_in_order(ranks_, at(p) + done, p.part.begin + done, count);
    }
  }

  /// Between the bucket's residual and the one that lies as my lane does.
  void copy_residual(bool into_lane) {
    for (const Piece& p : pieces_) {
      if (residual_.empty() || p.lane != local()) continue;
      float *whole = bucket().residual + p.part.begin, *lane = residual_.data() + p.at;
      std::memcpy(into_lane ? lane : whole, into_lane ? whole : lane, p.part.size * sizeof(float));
    }
  }

  Hierarchical& h_;
  NodeBarrier barrier_;
  NodeMemory::Place place_;
  bool staged_ = false;
  Buffer stage_, lane_memory_;
  std::vector<float*> ranks_;        // the bucket of every rank of the node
  std::vector<float*> lane_data_;    // of every lane, on this node
  std::size_t lane_n_ = 0;           // floats of my lane
  std::vector<Piece> pieces_;
  std::vector<float> residual_;
  Work* between_ = nullptr;
  std::uint64_t ticket_ = 0;
};

std::unique_ptr<Work> Hierarchical::make_work(Operation operation, const Bucket& bucket) {
  return std::make_unique<HierarchicalWork>(*this, operation, bucket);
}

double cost(const CostQuery& q) {
  const int m = q.nodes->nodes();
  if (m == 1 || m == q.ranks() || !q.between_nodes) return std::numeric_limits<double>::infinity();
  std::vector<int> one_each(static_cast<std::size_t>(m));
  std::iota(one_each.begin(), one_each.end(), 0);
  const NodeMap leaders(one_each);
  CostQuery between = q;
  between.nodes = &leaders;
  return 3 * q.network->within.latency + q.sum(2 * q.bytes) + q.between_nodes(between);
}

const Registered<CollectiveType> hierarchical{"hierarchical", {
    .summary = "shared memory within nodes, another algorithm between them, all ranks of a node feeding its line",
    .make = [](Communicator& c, const CollectiveOptions& o) -> std::unique_ptr<Collective> {
      return std::make_unique<Hierarchical>(c, o);
    },
    .lossy_codecs = true,
    .cost = cost,
}};

}  // namespace
}  // namespace cohort
