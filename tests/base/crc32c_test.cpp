#include "cohort/base/crc32c.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

namespace cohort {
namespace {

/// One bit at a time, straight from the definition.
std::uint32_t bitwise(const std::vector<unsigned char>& bytes, std::size_t begin, std::size_t end) {
  std::uint32_t crc = 0xffffffffu;
  for (std::size_t i = begin; i < end; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

TEST(Crc32c, KnownAnswers) {   // RFC 3720, appendix B.4
  const std::vector<unsigned char> zeros(32, 0), ones(32, 0xff);
  std::vector<unsigned char> up(32), down(32);
  std::iota(up.begin(), up.end(), static_cast<unsigned char>(0));
  for (std::size_t i = 0; i < 32; ++i) down[i] = static_cast<unsigned char>(31 - i);
  for (const auto function : {crc32c, crc32c_by_table}) {
    EXPECT_EQ(function(zeros.data(), 32, 0), 0x8a9136aau);
    EXPECT_EQ(function(ones.data(), 32, 0), 0x62a8ab43u);
    EXPECT_EQ(function(up.data(), 32, 0), 0x46dd794eu);
    EXPECT_EQ(function(down.data(), 32, 0), 0x113fdb5cu);
    EXPECT_EQ(function("123456789", 9, 0), 0xe3069283u);
    EXPECT_EQ(function(nullptr, 0, 0), 0u);
  }
}

TEST(Crc32c, EveryLengthStartAndCutAgreesWithTheDefinition) {
  std::vector<unsigned char> bytes(70);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 37 + 11);
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t end = begin; end <= bytes.size(); ++end) {
      const std::uint32_t expected = bitwise(bytes, begin, end);
      const std::size_t cut = begin + (end - begin) / 3;
      for (const auto function : {crc32c, crc32c_by_table}) {
        ASSERT_EQ(function(bytes.data() + begin, end - begin, 0), expected) << begin << " to " << end;
        const std::uint32_t first = function(bytes.data() + begin, cut - begin, 0);
        ASSERT_EQ(function(bytes.data() + cut, end - cut, first), expected) << begin << " to " << end << " cut at " << cut;
      }
    }
  }
}

TEST(Crc32c, TwoCombineToTheirWhole) {
  std::vector<unsigned char> bytes(70);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 101 + 3);
  for (std::size_t end = 0; end <= bytes.size(); ++end) {
    for (std::size_t cut = 0; cut <= end; ++cut) {
      ASSERT_EQ(combine_crc32c(bitwise(bytes, 0, cut), bitwise(bytes, cut, end), end - cut), bitwise(bytes, 0, end)) << cut << " of " << end;
    }
  }
  const std::vector<unsigned char> large(3'000'017, 0x5a);   // lengths beyond 16 bits
  for (const std::size_t cut : {std::size_t{1}, std::size_t{65'536}, std::size_t{2'999'999}}) {
    EXPECT_EQ(combine_crc32c(crc32c(large.data(), cut), crc32c(large.data() + cut, large.size() - cut), large.size() - cut),
              crc32c(large.data(), large.size()));
  }
  // Beyond 32 bits there is only the rule itself: in two steps or in one.
  const std::uint64_t far = (std::uint64_t{1} << 33) + 5;
  EXPECT_EQ(combine_crc32c(combine_crc32c(0xe3069283u, 0, far), 0, 7), combine_crc32c(0xe3069283u, 0, far + 7));
}

TEST(Crc32c, MaskIsInvertible) {
  EXPECT_EQ(mask_crc32c(0u), 0xa282ead8u);
  // The first eight bytes of every TensorBoard file that opens with the 24-byte version event, and their stored CRC.
  const unsigned char length[8] = {24, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(mask_crc32c(crc32c(length, 8)), 0x224b7fa3u);
  for (const std::uint32_t crc : {0u, 1u, 0xffffffffu, 0x12345678u, 0x80008000u})
    EXPECT_EQ(unmask_crc32c(mask_crc32c(crc)), crc);
}

}  // namespace
}  // namespace cohort
