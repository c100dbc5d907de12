#include "cohort/base/keyed_permutation.hpp"

#include <algorithm>
#include <bit>

#include "cohort/base/random.hpp"

namespace cohort {
namespace {

constexpr std::uint64_t kRounds = 8;   // 4 make it as good as random; halves of few bits are cheap to mix more often

constexpr std::uint32_t mask(int bits) { return static_cast<std::uint32_t>((std::uint64_t{1} << bits) - 1); }

}  // namespace

KeyedPermutation::KeyedPermutation(std::uint32_t n, std::uint64_t seed, std::uint64_t stream)
    : n_(n), seed_(seed), stream_(stream) {
  const int bits = std::max(static_cast<int>(std::bit_width(n > 0 ? n - 1 : 0u)), 2);   // each half needs one
  low_bits_ = bits / 2;
  high_bits_ = bits - low_bits_;
}

std::uint32_t KeyedPermutation::operator[](std::uint32_t place) const {
  std::uint32_t value = network(place);
  while (value >= n_) value = network(value);
  return value;
}

/// Each round changes one half by a function of the other, which the same round undoes: so it is one to one.
std::uint32_t KeyedPermutation::network(std::uint32_t value) const {
  std::uint32_t low = value & mask(low_bits_), high = value >> low_bits_;
  for (std::uint64_t round = 0; round < kRounds; round += 2) {
    low ^= random_bits(seed_, stream_, (round << 32) | high) & mask(low_bits_);
    high ^= random_bits(seed_, stream_, ((round + 1) << 32) | low) & mask(high_bits_);
  }
  return (high << low_bits_) | low;
}

}  // namespace cohort
