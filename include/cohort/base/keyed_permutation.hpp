#pragma once

#include <cstdint>

namespace cohort {

/// The numbers 0 … n-1 in an order that depends on (n, seed, stream) only, each computed on its own: no list is needed, however
/// many there are. A Feistel network (Luby & Rackoff, SIAM J. Comput. 1988) on the least number of bits that hold n - 1, whose
/// round function is Philox; what falls outside is sent through it again (cycle walking: Black & Rogaway, CT-RSA 2002), twice on
/// average at most. Any thread.
class KeyedPermutation {
 public:
  KeyedPermutation(std::uint32_t n, std::uint64_t seed, std::uint64_t stream);
  /// The number in place `place`, which must be below n.
  [[nodiscard]] std::uint32_t operator[](std::uint32_t place) const;

 private:
  [[nodiscard]] std::uint32_t network(std::uint32_t value) const;

  std::uint32_t n_;
  int low_bits_, high_bits_;
  std::uint64_t seed_, stream_;
};

}  // namespace cohort
