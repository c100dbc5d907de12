#pragma once

#include <cstddef>
#include <cstdint>

namespace cohort {

/// CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected; RFC 3720 appendix B.4) of `bytes` bytes, by the processor's own
/// instruction where it has one. `before` is the CRC of what came before, so a long text may come in pieces:
/// `crc32c(b, n, crc32c(a, m))` is the CRC of a followed by b. Thread-safe.
[[nodiscard]] std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t before = 0);

/// The same by table alone: what `crc32c` does on a processor without the instruction.
[[nodiscard]] std::uint32_t crc32c_by_table(const void* data, std::size_t bytes, std::uint32_t before = 0);

/// The CRC of two texts one behind the other from theirs and the second's length: `crc32c(a and b)` = `combine_crc32c(crc32c(a),
/// crc32c(b), length of b)`. log2(bytes) steps (Mark Adler's crc32_combine of zlib).
[[nodiscard]] std::uint32_t combine_crc32c(std::uint32_t first, std::uint32_t second, std::uint64_t second_bytes);

/// The form in which TensorFlow's record files store a CRC (rotated and shifted, so that a CRC over data that itself holds
/// CRCs stays meaningful), and back.
[[nodiscard]] constexpr std::uint32_t mask_crc32c(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }
[[nodiscard]] constexpr std::uint32_t unmask_crc32c(std::uint32_t masked) {
  const std::uint32_t rotated = masked - 0xa282ead8u;
  return (rotated >> 17) | (rotated << 15);
}

}  // namespace cohort
