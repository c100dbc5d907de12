#pragma once

#include "cohort/graph/functions.hpp"

namespace cohort {

/// The gradient of a matrix under many rows: Σ aᵀ·dy over everything in front of the last two dimensions of a and dy, or
/// its transpose. One large product of all rows, where it is known that they have elements that tell how many they are;
/// else a sum over small products. `matrix` gives the sizes that a and dy may leave open.
[[nodiscard]] inline Value product_of_rows(Value a, Value dy, Value matrix, bool transposed) {
  const auto product = [&](Value rows, Value dy_rows) {
    return transposed ? matmul(dy_rows, rows, true, false) : matmul(rows, dy_rows, true, false);
  };
  if (a.shape().rank() == 2) return product(a, dy);
  const std::int64_t of_a = matrix.shape()[transposed ? 1 : 0], of_dy = matrix.shape()[transposed ? 0 : 1];
  if (of_a > 0 && of_dy > 0) return product(reshape(a, {-1, of_a}), reshape(dy, {-1, of_dy}));
  return matrix.graph->add("SumLike", {product(a, dy), matrix});
}

}  // namespace cohort
