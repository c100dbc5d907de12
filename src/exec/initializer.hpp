#pragma once

#include <cstdint>

#include "cohort/graph/graph.hpp"

namespace cohort {

/// Fills a variable's memory with its start values: element i is f(seed, stream of the variable's name, i), the same for any
/// number of ranks. Error invalid_argument for an unknown `init`.
void initialise(const Tensor& storage, const NodeData& variable, std::uint64_t seed);

}  // namespace cohort
