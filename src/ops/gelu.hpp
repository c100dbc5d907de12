#pragma once

#include <cmath>

#include "cohort/tensor/vector_math.hpp"

namespace cohort {

struct GeluResult {
  float y, slope;
};

/// gelu(z) = z Φ(z), Φ the normal distribution function (Hendrycks & Gimpel 2016), and its derivative Φ(z) + z φ(z), which
/// need one exponential together: erfc(a) = e^(−a²) times a polynomial in 1 / (1 + p a), with an error below 1.5e-7
/// (Abramowitz & Stegun, "Handbook of mathematical functions", 7.1.26).
inline GeluResult gelu_with_slope(float z) {
  const float a = std::fabs(z) * 0.70710678118654752f, bounded = a > 9.f ? 9.f : a;   // beyond it e^(−a²) is 0 in float32
  const float bell = vec::exp(-bounded * bounded), t = 1.f / (1.f + 0.3275911f * bounded);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float tail = 0.5f * p * t * bell, cumulative = z < 0.f ? tail : 1.f - tail;
  return {z * cumulative, cumulative + z * bell * 0.39894228040143268f};
}

}  // namespace cohort
