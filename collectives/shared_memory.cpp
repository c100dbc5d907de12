// shared_memory: the ranks of one machine sum in memory that all of them see; no payload travels. Each rank sums its block
// over all ranks in rank order and writes the sum into everybody's bucket: per rank 2n floats read or written, so an
// all-reduce of two ranks moves 4n floats through memory and is done in one pass. The start needs no barrier of its own:
// when the ranks have agreed on the operation, all have written their input. A barrier of flags ends it.
// A bucket in other memory is staged: copied in and out.

#include <algorithm>
#include <cstring>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/node_memory.hpp"
#include "cohort/comm/sums.hpp"

namespace cohort {
namespace {

constexpr std::size_t kPiece = 64 * 1024;   // floats between two breaths: some 50 µs
class SharedMemoryWork final : public Work {
 public:
  SharedMemoryWork(Collective& collective, NodeMemory& memory, Operation operation, const Bucket& bucket)
      : Work(collective, operation, bucket), barrier_(memory.make_barrier()) {
    const std::size_t bytes = bucket.n * sizeof(float);
    place_ = memory.find(bucket.data, bytes);
    // All ranks must do the same here, or they would wait for each other at different barriers.
    staged_ = all_reduce(collective.communicator(), std::int64_t{place_.allocation < 0}, Reduce::max) != 0;
    if (staged_) {
      stage_ = memory.allocate(bytes);
      place_ = memory.find(stage_.memory.get(), bytes);
    }
    for (int r = 0; r < size(); ++r) ranks_.push_back(reinterpret_cast<float*>(memory.address(place_, r)));
  }

 protected:
  std::uint64_t layout() const noexcept override {
    return static_cast<std::uint64_t>(place_.allocation) << 48 ^ place_.offset;
  }

 private:
  auto all_there() {
    return until([this] { return barrier_.all_there(); }, [this] { return barrier_.missing(); });
  }

  void begin() override {
    if (staged_) copy(own(), bucket().data, {0, bucket().n});
    barrier_.arrive();
  }

  Progress run() override {
    co_await all_there();   // they are, says the agreement; looking at the counters makes what they wrote visible here
    if (operation() == Operation::all_gather) {
      for (int r = 0; r < size(); ++r) {
        if (r != rank()) copy(own(), ranks_[static_cast<std::size_t>(r)], block(r));
        co_await breath();
      }
    } else if (size() > 1) {
      const Block mine = block(rank());
      for (std::size_t done = 0; done < mine.size; done += kPiece) {
        if (done > 0) co_await breath();
        const Block piece{mine.begin + done, std::min(kPiece, mine.size - done)};
        if (operation() == Operation::all_reduce) sum_in_order_everywhere(ranks_, piece.begin, piece.size);
        else sum_in_order(ranks_, own() + piece.begin, piece.begin, piece.size);
      }
    }
    barrier_.arrive();
    co_await all_there();
    if (staged_) copy(bucket().data, own(), operation() == Operation::reduce_scatter ? block(rank()) : Block{0, bucket().n});
  }

  [[nodiscard]] float* own() const { return ranks_[static_cast<std::size_t>(rank())]; }
  static void copy(float* to, const float* from, Block part) {
    if (part.size > 0) std::memcpy(to + part.begin, from + part.begin, part.size * sizeof(float));
  }

  NodeBarrier barrier_;
  NodeMemory::Place place_;
  bool staged_ = false;
  Buffer stage_;
  std::vector<float*> ranks_;    // the bucket of every rank
};

class SharedMemoryCollective final : public Collective {
 public:
  SharedMemoryCollective(Communicator& c, const CollectiveOptions& options)
      : Collective(c, options), memory_(communicator()) {}
  Buffer allocate(std::size_t bytes) override { return memory_.allocate(bytes); }

 protected:
  std::unique_ptr<Work> make_work(Operation operation, const Bucket& bucket) override {
    return std::make_unique<SharedMemoryWork>(*this, memory_, operation, bucket);
  }

 private:
  NodeMemory memory_;
};

const Registered<CollectiveType> shared_memory{"shared_memory", {
    .summary = "one machine: every rank sums its block in shared memory, in rank order",
    .make = [](Communicator& c, const CollectiveOptions& o) -> std::unique_ptr<Collective> {
      return std::make_unique<SharedMemoryCollective>(c, o);
    },
    .several_nodes = false,
    .rank_order = true,
    .node_memory = true,
    .cost = [](const CostQuery& q) { return 2 * q.network->within.latency + q.sum(2 * q.bytes); },
}};

}  // namespace
}  // namespace cohort
