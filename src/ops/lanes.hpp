#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace cohort {

/// How numbers are joined into one. Sums run in float64: exact to float32's rounding for any practical length, in any order.
struct SumOf {
  using Acc = double;
  static constexpr Acc kStart = 0;
  static Acc join(Acc a, Acc x) { return a + x; }
};
/// For a few thousand numbers at most: the lanes keep the rounding error low.
struct FloatSumOf {
  using Acc = float;
  static constexpr Acc kStart = 0;
  static Acc join(Acc a, Acc x) { return a + x; }
};
/// NaN wins.
struct MaxOf {
  using Acc = float;
  static constexpr Acc kStart = -std::numeric_limits<float>::infinity();
  static Acc join(Acc a, Acc x) { return (x > a) | (x != x) ? x : a; }
};

/// Joins element(0) … element(n-1) in 16 lanes, so that it vectorises; always in the same order.
template <class Join, class Element>
typename Join::Acc join_lanes(std::int64_t n, Element element) {
  using Acc = typename Join::Acc;
  constexpr std::int64_t kLanes = 16;
  Acc rest = Join::kStart;
  const std::int64_t whole = n - n % kLanes;
  for (std::int64_t i = whole; i < n; ++i) rest = Join::join(rest, static_cast<Acc>(element(i)));
  if (whole == 0) return rest;
  Acc lanes[kLanes];
  for (Acc& lane : lanes) lane = Join::kStart;
  for (std::int64_t i = 0; i < whole; i += kLanes) {
#pragma GCC unroll 1   // unrolled completely it would not be vectorised
    for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] = Join::join(lanes[j], static_cast<Acc>(element(i + j)));
  }
  for (std::int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::int64_t j = 0; j < width; ++j) lanes[j] = Join::join(lanes[j], lanes[j + width]);
  }
  return Join::join(lanes[0], rest);
}

}  // namespace cohort
