#include "support/count_allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace cohort::testing {
namespace {

std::atomic<std::size_t> count{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  count.fetch_add(1, std::memory_order_relaxed);
  void* memory = alignment == 0 ? std::malloc(bytes)
                                : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

std::size_t allocations() noexcept { return count.load(std::memory_order_relaxed); }

}  // namespace cohort::testing

void* operator new(std::size_t bytes) { return cohort::testing::counted(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return cohort::testing::counted(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {   // std::stable_sort asks for its buffer this way
  try {
    return cohort::testing::counted(bytes, 0);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
