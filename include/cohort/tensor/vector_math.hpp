#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cohort/base/portable.hpp"

/// Transcendental functions without branches or tables, so that compilers vectorise loops over them (calls of <cmath> are
/// not vectorised without fast-math). Errors are below 2.5 units in the last place; NaN stays NaN, infinities behave.
/// Polynomials: Cephes library, expf.c and tanhf.c (S. Moshier, 1989–1992); erf: N. Juffa's two-piece fit.
namespace cohort::vec {

COHORT_HD inline float exp(float x) {
  const float c = x < -104.f ? -104.f : (x > 89.f ? 89.f : x);          // beyond them e^x is 0 or infinity; NaN passes
  constexpr float kRound = 12582912.f;                                  // 1.5 · 2^23: adding it rounds to a whole number
  const float shifted = c * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (c - n * 0.693359375f) + n * 2.12194440e-4f;          // x − n ln 2 with ln 2 in two parts
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = p * (r * r) + r + 1.f;
  // 2^n in two factors, since n spans more than one float's exponents.
  const auto whole = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kRound));
  const std::int32_t half = whole >> 1;
  const auto low = (static_cast<std::uint32_t>(half) + 127u) << 23;
  const auto high = (static_cast<std::uint32_t>(whole - half) + 127u) << 23;
  return y * std::bit_cast<float>(low) * std::bit_cast<float>(high);
}

COHORT_HD inline float sigmoid(float x) { return 1.f / (1.f + exp(-x)); }

COHORT_HD inline float tanh(float x) {
  const float a = std::fabs(x), s = x * x;
  const float far = std::copysign(1.f - 2.f / (exp(2.f * a) + 1.f), x);
  float p = -5.70498872745e-3f;
  p = p * s + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  const float near = p * s * x + x;
  return a > 0.625f ? far : near;
}

COHORT_HD inline float erf(float x) {
  const float t = std::fabs(x), a = t > 4.f ? 4.f : t, s = x * x;       // erf(4) is 1 in float32
  float r = -1.72853470e-5f * a + 3.83197126e-4f;
  const float u = -3.88396438e-3f * a + 2.42546219e-2f;
  r = r * (a * a) + u;
  r = r * a - 1.06777877e-1f;
  r = r * a - 6.34846687e-1f;
  r = r * a - 1.28717512e-1f;
  const float far = std::copysign(1.f - exp(r * a - a), x);
  float q = -5.96761703e-4f;
  q = q * s + 4.99119423e-3f;
  q = q * s - 2.67681349e-2f;
  q = q * s + 1.12819925e-1f;
  q = q * s - 3.76125336e-1f;
  q = q * s + 1.28379166e-1f;
  return t > 0.921875f ? far : q * x + x;
}

}  // namespace cohort::vec
