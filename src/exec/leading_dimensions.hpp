#pragma once

#include <cstdint>
#include <vector>

#include "exec/plan.hpp"

namespace cohort {

struct LeadingDimensionRequest {
  std::vector<bool> any_ld;                ///< by node: its kernel reads and writes any leading dimension
  std::vector<bool> runs;                  ///< by node: false for sources and views without a kernel
  std::vector<std::int64_t> bound_ld;      ///< by fetch: of the memory that it is bound to; 0: not bound
};

/// The leading dimension of every output, by node and output: that of the memory a fetch is bound to, or `padded_ld`, where
/// the kernel that writes the value and all that read it take any; else dense.
[[nodiscard]] std::vector<std::vector<std::int64_t>> choose_leading_dimensions(const Plan& plan, const LeadingDimensionRequest& request);

}  // namespace cohort
