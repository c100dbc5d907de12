#include "cohort/base/crc32c.hpp"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace cohort {
namespace {

constexpr std::uint32_t kReflectedPolynomial = 0x82f63b78u;

/// table[k][b]: the CRC of byte b followed by k zero bytes, so that eight bytes take eight independent look-ups
/// (Kounavis and Berry 2005, "slicing by 8").
constexpr auto kTables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) ? kReflectedPolynomial : 0u);
    table[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t last = table[k - 1][byte];
      table[k][byte] = (last >> 8) ^ table[0][last & 0xffu];
    }
  }
  return table;
}();

std::uint64_t load64(const unsigned char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

[[gnu::target("sse4.2")]] std::uint32_t by_instruction(const void* data, std::size_t bytes, std::uint32_t before) {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint64_t crc = ~before;
  for (; bytes >= 8; bytes -= 8, at += 8) crc = _mm_crc32_u64(crc, load64(at));
  auto narrow = static_cast<std::uint32_t>(crc);
  for (; bytes > 0; --bytes, ++at) narrow = _mm_crc32_u8(narrow, *at);
  return ~narrow;
}

/// The product of two polynomials over GF(2) modulo the CRC's; the highest bit is the coefficient of x^0.
constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (std::uint32_t power = 0x80000000u; power != 0; power >>= 1) {
    if ((a & power) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1u) != 0 ? kReflectedPolynomial : 0u);
  }
  return product;
}

}  // namespace

std::uint32_t combine_crc32c(std::uint32_t first, std::uint32_t second, std::uint64_t second_bytes) {
  // As many zero bytes behind the first text multiply its CRC by x^(8 bytes); what the start and end value of a CRC add cancels.
  std::uint32_t factor = 0x80000000u, power = 0x00800000u;   // x^0, x^8
  for (; second_bytes != 0; second_bytes >>= 1, power = multiply(power, power)) {
    if ((second_bytes & 1u) != 0) factor = multiply(factor, power);
  }
  return multiply(factor, first) ^ second;
}

std::uint32_t crc32c_by_table(const void* data, std::size_t bytes, std::uint32_t before) {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint32_t crc = ~before;
  for (; bytes >= 8; bytes -= 8, at += 8) {
    const std::uint64_t word = load64(at) ^ crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xffu];
  }
  for (; bytes > 0; --bytes, ++at) crc = (crc >> 8) ^ kTables[0][(crc ^ *at) & 0xffu];
  return ~crc;
}

std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t before) {
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  return has_instruction ? by_instruction(data, bytes, before) : crc32c_by_table(data, bytes, before);
}

}  // namespace cohort
