#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "cohort/tensor/shape.hpp"

namespace cohort::hdf5 {

/// A rectangle in a tensor: what HDF5 calls a hyperslab.
struct Block {
  std::array<std::int64_t, Shape::kMaxRank> start{}, count{};   // as many as the tensor has dimensions
  std::int64_t elements = 0;
};

/// Cuts the elements `begin` to `end` (row-major order) of a tensor with at least one dimension into rectangles, and shows them
/// in their order: at most 2 · dimensions - 1.
void for_each_block(const Shape& shape, std::int64_t begin, std::int64_t end, const std::function<void(const Block&)>& show);

}  // namespace cohort::hdf5
