#include "support/count_allocations.hpp"

#include <link.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace cohort::testing {
namespace {

std::atomic<std::size_t> count{0};
std::atomic<std::uintptr_t> library_begin{0}, library_end{0};

void* counted(std::size_t bytes, std::size_t alignment, const void* caller) {
  const auto address = reinterpret_cast<std::uintptr_t>(caller);
  if (address < library_begin.load(std::memory_order_relaxed) || address >= library_end.load(std::memory_order_relaxed)) {
    count.fetch_add(1, std::memory_order_relaxed);
  }
  void* memory = alignment == 0 ? std::malloc(bytes)
                                : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

std::size_t allocations() noexcept { return count.load(std::memory_order_relaxed); }

bool leave_out_library(const char* part_of_name) {
  const auto look = [](dl_phdr_info* library, std::size_t, void* part) {
    const char* name = library->dlpi_name;
    if (name == nullptr || std::strstr(name, static_cast<const char*>(part)) == nullptr) return 0;
    std::uintptr_t begin = UINTPTR_MAX, end = 0;
    for (int i = 0; i < library->dlpi_phnum; ++i) {
      const auto& segment = library->dlpi_phdr[i];
      if (segment.p_type != PT_LOAD) continue;
      begin = std::min<std::uintptr_t>(begin, library->dlpi_addr + segment.p_vaddr);
      end = std::max<std::uintptr_t>(end, library->dlpi_addr + segment.p_vaddr + segment.p_memsz);
    }
    library_begin = begin;
    library_end = end;
    return 1;
  };
  return dl_iterate_phdr(look, const_cast<char*>(part_of_name)) == 1;
}

}  // namespace cohort::testing

void* operator new(std::size_t bytes) { return cohort::testing::counted(bytes, 0, __builtin_return_address(0)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return cohort::testing::counted(bytes, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {   // std::stable_sort asks for its buffer this way
  try {
    return cohort::testing::counted(bytes, 0, __builtin_return_address(0));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
