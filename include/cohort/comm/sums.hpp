#pragma once

#include <cstddef>
#include <span>

namespace cohort {

/// to[i] := x[0][begin + i] + x[1][begin + i] + … for i below n, summed in this order. `to` may be the same place in one of
/// the x, which do not overlap otherwise.
void sum_in_order(std::span<float* const> x, float* to, std::size_t begin, std::size_t n);
/// The same sums, written to that place in every one of the x.
void sum_in_order_everywhere(std::span<float* const> x, std::size_t begin, std::size_t n);

}  // namespace cohort
