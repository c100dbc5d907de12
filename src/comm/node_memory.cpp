#include "cohort/comm/node_memory.hpp"

#include <atomic>

namespace cohort {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLine = 64;

}  // namespace

void NodeBarrier::arrive() noexcept {
  missing_ = 0;
  ++crossing_;
  std::atomic_ref(*counters_[static_cast<std::size_t>(rank_)]).store(crossing_, std::memory_order_release);
}

bool NodeBarrier::all_there() noexcept {
  // A rank may be a crossing ahead, never behind one that it has been seen at.
  while (missing_ < counters_.size() && std::atomic_ref(*counters_[missing_]).load(std::memory_order_acquire) >= crossing_) {
    ++missing_;
  }
  return missing_ == counters_.size();
}

Buffer NodeMemory::allocate(std::size_t bytes) {
  const auto& memory = allocations_.emplace_back(communicator_->allocate_shared(bytes));
  const std::span<std::byte> mine = memory->part(communicator_->rank());
  return {.memory = std::shared_ptr<void>(memory, mine.data()), .bytes = bytes};
}

NodeBarrier NodeMemory::make_barrier() {
  if (next_barrier_.allocation < 0 || next_barrier_.offset == kPage) {
    (void)allocate(kPage);
    next_barrier_ = {.allocation = static_cast<int>(allocations_.size()) - 1, .offset = 0};
  }
  std::vector<std::uint64_t*> counters;
  for (int rank = 0; rank < communicator_->size(); ++rank) {
    counters.push_back(reinterpret_cast<std::uint64_t*>(address(next_barrier_, rank)));
  }
  next_barrier_.offset += kLine;
  return {std::move(counters), communicator_->rank()};
}

NodeMemory::Place NodeMemory::find(const void* data, std::size_t bytes) const noexcept {
  const auto* begin = static_cast<const std::byte*>(data);
  for (std::size_t i = 0; i < allocations_.size(); ++i) {
    const std::span<std::byte> part = allocations_[i]->part(communicator_->rank());
    if (begin < part.data() || begin + bytes > part.data() + part.size()) continue;
    return {.allocation = static_cast<int>(i), .offset = static_cast<std::size_t>(begin - part.data())};
  }
  return {};
}

std::byte* NodeMemory::address(Place place, int rank) const {
  return allocations_.at(static_cast<std::size_t>(place.allocation))->part(rank).data() + place.offset;
}

}  // namespace cohort
