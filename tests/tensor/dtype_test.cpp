#include "cohort/tensor/dtype.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cohort/base/random.hpp"

namespace cohort {
namespace {

/// The representable value nearest to x, ties to even, found by search over all finite values of the format.
template <class T>
float nearest_by_search(float x) {
  static const std::vector<std::pair<float, std::uint16_t>> all = [] {
    std::vector<std::pair<float, std::uint16_t>> values;
    for (std::uint32_t bits = 0; bits < 0x8000; ++bits) {
      T candidate;
      candidate.bits = static_cast<std::uint16_t>(bits);
      if (std::isfinite(static_cast<float>(candidate))) values.emplace_back(static_cast<float>(candidate), candidate.bits);
    }
    return values;   // positive half, in order
  }();
  const float magnitude = std::fabs(x);
  const auto above = std::lower_bound(all.begin(), all.end(), std::pair{magnitude, std::uint16_t{0}});
  if (above == all.end()) return std::numeric_limits<float>::quiet_NaN();
  if (above == all.begin()) return std::copysign(above->first, x);
  const auto below = above - 1;
  const double up = static_cast<double>(above->first) - magnitude, down = static_cast<double>(magnitude) - below->first;
  const bool take_above = up < down || (up == down && above->second % 2 == 0);
  return std::copysign(take_above ? above->first : below->first, x);
}

template <class T>
void check_rounding(float largest) {
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const float exponent = 60.f * random_uniform(3, 1, i) - 40.f;
    const float x = (2.f * random_uniform(3, 2, i) - 1.f) * std::exp2(exponent);
    if (std::fabs(x) >= largest) continue;
    ASSERT_EQ(static_cast<float>(T(x)), nearest_by_search<T>(x)) << x;
  }
}

TEST(DType, SixteenBitFloatsRoundToTheNearestWithTiesToEven) {
  check_rounding<float16>(65504.f);
  check_rounding<bfloat16>(3e38f);
}

TEST(DType, SpecialValuesStaySpecial) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(static_cast<float>(float16(infinity)), infinity);
  EXPECT_EQ(static_cast<float>(float16(-1e6f)), -infinity);
  EXPECT_EQ(static_cast<float>(float16(65519.9f)), 65504.f);
  EXPECT_EQ(static_cast<float>(float16(65520.f)), infinity);
  EXPECT_EQ(static_cast<float>(bfloat16(infinity)), infinity);
  EXPECT_TRUE(std::isnan(static_cast<float>(float16(std::nanf("")))));
  EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::signbit(static_cast<float>(float16(-0.f))));
}

TEST(DType, NamesGoThereAndBack) {
  for (int i = 0; i < 8; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from(name(dtype)), dtype);
  }
  EXPECT_THROW((void)dtype_from("float23"), Error);
}

}  // namespace
}  // namespace cohort
