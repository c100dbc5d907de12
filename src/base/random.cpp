#include "cohort/base/random.hpp"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace cohort {

float random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto words = philox(seed, stream, index);
  const double u = (static_cast<double>(words[0]) + 1.0) * 0x1p-32;   // (0, 1]: the logarithm stays finite
  const double v = static_cast<double>(words[1]) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v));
}

std::vector<std::uint32_t> random_permutation(std::uint32_t n, std::uint64_t seed, std::uint64_t stream) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  for (std::uint32_t i = n; i > 1; --i) {
    const auto j = static_cast<std::uint32_t>(random_below(i, seed, stream, i));
    std::swap(order[i - 1], order[j]);
  }
  return order;
}

}  // namespace cohort
