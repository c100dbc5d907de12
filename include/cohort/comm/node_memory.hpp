#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {

/// One counter per rank, each on a cache line of its own and only written by its rank: a barrier without messages.
class NodeBarrier {
 public:
  NodeBarrier(std::vector<std::uint64_t*> counters, int rank) : counters_(std::move(counters)), rank_(rank) {}

  /// Says that this rank has come to the next crossing. What it wrote before is visible to whoever sees that.
  void arrive() noexcept;
  /// Never blocks: true when all ranks have come to the crossing of the last `arrive`.
  [[nodiscard]] bool all_there() noexcept;
  /// A rank that had not come yet when `all_there` looked, -1 if all had.
  [[nodiscard]] int missing() const noexcept { return missing_ < counters_.size() ? static_cast<int>(missing_) : -1; }

 private:
  std::vector<std::uint64_t*> counters_;
  int rank_;
  std::uint64_t crossing_ = 0;
  std::size_t missing_ = 0;           // ranks before it have been seen
};

/// Memory that all ranks of one machine see: an MPI shared window, or plain memory where ranks are threads. Every rank
/// allocates the same sizes in the same order, so one rank's address tells where the others keep the same thing.
class NodeMemory {
 public:
  /// All ranks of `communicator`, which must outlive this object, must be on one node.
  explicit NodeMemory(Communicator& communicator) : communicator_(&communicator) {}

  /// Collective. This rank's part, zeroed; it lives as long as the buffer or this object.
  [[nodiscard]] Buffer allocate(std::size_t bytes);
  /// Collective. Lives as long as this object.
  [[nodiscard]] NodeBarrier make_barrier();

  struct Place {
    int allocation = -1;              ///< how manieth; -1: not in this memory
    std::size_t offset = 0;           ///< in bytes
  };
  /// Where in this rank's part the `bytes` at `data` lie.
  [[nodiscard]] Place find(const void* data, std::size_t bytes) const noexcept;
  /// The same place in another rank's part. The place must be inside this memory.
  [[nodiscard]] std::byte* address(Place place, int rank) const;

 private:
  Communicator* communicator_;
  std::vector<std::shared_ptr<SharedMemory>> allocations_;
  Place next_barrier_{};              // counters come from pages of this memory
};

}  // namespace cohort
