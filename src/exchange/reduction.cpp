#include "exchange/reduction.hpp"

namespace cohort {

float* Reduction::host_sums(std::size_t bucket) const {
  return store()->host_memory(bucket) + (owned_[bucket].begin - store()->ranges()[bucket].begin);
}

GradientMemory Reduction::memory() const noexcept {
  const std::int64_t all = store()->bytes();
  return {.all = all, .kept = all - store()->spare_bytes()};
}

}  // namespace cohort
