#pragma once

#include <cstdint>

namespace cohort {

/// A part of the flat index space whose summed gradient a rank has, and where that lies on the device. It begins and ends at
/// multiples of ParameterLayout::kUnit.
struct GradientRange {
  std::int64_t begin = 0, n = 0;
  float* gradient = nullptr;
};

}  // namespace cohort
