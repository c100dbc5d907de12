// shared_memory: the ranks of one machine sum in memory that all of them see; no payload travels. Each rank sums its block
// over all ranks in rank order and writes the sum into everybody's bucket: per rank 2n floats read or written, so an
// all-reduce of two ranks moves 4n floats through memory and is done in one pass. The start needs no barrier of its own:
// when the ranks have agreed on the operation, all have written their input. A barrier of flags ends it.
// A bucket in other memory is staged: copied in and out.

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/comm/node_memory.hpp"

namespace cohort {
namespace {

constexpr std::size_t kPiece = 64 * 1024;   // floats between two breaths: some 50 µs
constexpr std::size_t kStrip = 1024;        // floats of a sum that stay in the first-level cache

/// Two to four ranks: sums without a detour, every value read once and, if `All`, written once; else written to `to`,
/// which is one of the buckets.
template <std::size_t P, bool All>
void sum_few(const std::vector<float*>& x, float* to, std::size_t begin, std::size_t n) {
  std::array<float*, P> p;
  for (std::size_t r = 0; r < P; ++r) p[r] = x[r] + begin;
  float* own = to + begin;
#pragma GCC ivdep   // buckets are apart, or the same: element i depends on elements i only
  for (std::size_t i = 0; i < n; ++i) {
    float sum = p[0][i];
    for (std::size_t r = 1; r < P; ++r) sum += p[r][i];
    if constexpr (All) {
      for (std::size_t r = 0; r < P; ++r) p[r][i] = sum;
    } else {
      own[i] = sum;
    }
  }
}

void sum_many(const std::vector<float*>& x, float* own, bool all, std::size_t begin, std::size_t n) {
  alignas(64) std::array<float, kStrip> sum;
  for (std::size_t done = 0; done < n; done += kStrip) {
    const std::size_t first = begin + done, count = std::min(kStrip, n - done);
    std::copy_n(x[0] + first, count, sum.data());
    for (std::size_t r = 1; r < x.size(); ++r) {
      const float* from = x[r] + first;
      for (std::size_t i = 0; i < count; ++i) sum[i] += from[i];
    }
    if (!all) std::copy_n(sum.data(), count, own + first);
    for (std::size_t r = 0; all && r < x.size(); ++r) std::copy_n(sum.data(), count, x[r] + first);
  }
}

/// Elements [begin, begin + n) of all ranks' buckets `x`, summed in rank order into all of them or into `own` alone.
void sum(const std::vector<float*>& x, float* own, bool all, std::size_t begin, std::size_t n) {
  switch (x.size() * 2 + (all ? 1 : 0)) {
    case 4: return sum_few<2, false>(x, own, begin, n);
    case 5: return sum_few<2, true>(x, own, begin, n);
    case 6: return sum_few<3, false>(x, own, begin, n);
    case 7: return sum_few<3, true>(x, own, begin, n);
    case 8: return sum_few<4, false>(x, own, begin, n);
    case 9: return sum_few<4, true>(x, own, begin, n);
    default: return sum_many(x, own, all, begin, n);
  }
}

class SharedMemoryWork final : public Work {
 public:
  SharedMemoryWork(Collective& collective, NodeMemory& memory, Operation operation, const Bucket& bucket)
      : Work(collective, operation, bucket), barrier_(memory.make_barrier()) {
    const std::size_t bytes = bucket.n * sizeof(float);
    place_ = memory.find(bucket.data, bytes);
    // All ranks must do the same here, or they would wait for each other at different barriers.
    staged_ = collective.communicator().all_reduce(std::int64_t{place_.allocation < 0}, Reduce::max) != 0;
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
    } else {
      const Block mine = block(rank());
      for (std::size_t done = 0; done < mine.size; done += kPiece) {
        if (done > 0) co_await breath();
        sum(ranks_, own(), operation() == Operation::all_reduce, mine.begin + done, std::min(kPiece, mine.size - done));
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
    .preference = 20,
    .several_nodes = false,
    .rank_order = true,
}};

}  // namespace
}  // namespace cohort
