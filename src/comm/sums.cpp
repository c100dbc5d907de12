#include "cohort/comm/sums.hpp"

#include <algorithm>
#include <array>

namespace cohort {
namespace {

constexpr std::size_t kStrip = 1024;        // floats of a sum that stay in the first-level cache

/// One to four ranks: sums without a detour, every value read once and, if `All`, written once; else written to `to`, which
/// may lie in one of the buckets, at the same place.
template <std::size_t P, bool All>
void sum_few(std::span<float* const> x, float* to, std::size_t begin, std::size_t n) {
  std::array<float*, P> p;
  for (std::size_t r = 0; r < P; ++r) p[r] = x[r] + begin;
#pragma GCC ivdep   // buckets are apart, or the same: element i depends on elements i only
  for (std::size_t i = 0; i < n; ++i) {
    float sum = p[0][i];
    for (std::size_t r = 1; r < P; ++r) sum += p[r][i];
    if constexpr (All) {
      for (std::size_t r = 0; r < P; ++r) p[r][i] = sum;
    } else {
      to[i] = sum;
    }
  }
}

void sum_many(std::span<float* const> x, float* to, bool all, std::size_t begin, std::size_t n) {
  alignas(64) std::array<float, kStrip> sum;
  for (std::size_t done = 0; done < n; done += kStrip) {
    const std::size_t first = begin + done, count = std::min(kStrip, n - done);
    std::copy_n(x[0] + first, count, sum.data());
    for (std::size_t r = 1; r < x.size(); ++r) {
      const float* from = x[r] + first;
      for (std::size_t i = 0; i < count; ++i) sum[i] += from[i];
    }
    if (!all) std::copy_n(sum.data(), count, to + done);
    for (std::size_t r = 0; all && r < x.size(); ++r) std::copy_n(sum.data(), count, x[r] + first);
  }
}

}  // namespace

void sum_in_order(std::span<float* const> x, float* to, std::size_t begin, std::size_t n) {
  switch (x.size()) {
    case 2: return sum_few<2, false>(x, to, begin, n);
    case 3: return sum_few<3, false>(x, to, begin, n);
    case 4: return sum_few<4, false>(x, to, begin, n);
    default: return sum_many(x, to, false, begin, n);
  }
}

void sum_in_order_everywhere(std::span<float* const> x, std::size_t begin, std::size_t n) {
  switch (x.size()) {
    case 2: return sum_few<2, true>(x, nullptr, begin, n);
    case 3: return sum_few<3, true>(x, nullptr, begin, n);
    case 4: return sum_few<4, true>(x, nullptr, begin, n);
    default: return sum_many(x, nullptr, true, begin, n);
  }
}

}  // namespace cohort
