#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cohort/base/portable.hpp"

namespace cohort {

/// Counter-based random numbers: a value is a pure function of (seed, stream, index), so any rank, thread or device can
/// compute any of them in any order. Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3").
COHORT_HD constexpr std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint32_t c0 = static_cast<std::uint32_t>(index), c1 = static_cast<std::uint32_t>(index >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

COHORT_HD constexpr std::uint32_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return philox(seed, stream, index)[0];
}

/// Uniform in [0, 1), 24 bits.
COHORT_HD constexpr float random_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return static_cast<float>(random_bits(seed, stream, index) >> 8) * 0x1p-24f;
}

/// Standard normal (Box-Muller on two of the four words).
[[nodiscard]] float random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

/// Uniform in [0, bound) without modulo bias worth the name (64-bit multiply); bound >= 1.
COHORT_HD constexpr std::uint64_t random_below(std::uint64_t bound, std::uint64_t seed, std::uint64_t stream,
                                               std::uint64_t index) {
  return (static_cast<std::uint64_t>(random_bits(seed, stream, index)) * bound) >> 32;   // bound < 2^32
}

/// A stream number from a name (FNV-1a), the same on every machine.
[[nodiscard]] constexpr std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

/// The numbers 0 … n-1 in an order that depends on (seed, stream) only (Fisher-Yates). n < 2^32.
[[nodiscard]] std::vector<std::uint32_t> random_permutation(std::uint32_t n, std::uint64_t seed, std::uint64_t stream);

}  // namespace cohort
