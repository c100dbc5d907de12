#include "cohort/base/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cohort/base/keyed_permutation.hpp"

namespace cohort {
namespace {

TEST(Random, PhiloxMatchesThePublishedVectors) {
  // Random123's known-answer file: philox4x32-10 of all zeros, of all ones, of digits of pi.
  EXPECT_EQ(philox(0, 0, 0), (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822ull, 0x0370734413198a2eull, 0x85a308d3243f6a88ull),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  double sum = 0, normal_sum = 0, normal_squares = 0;
  constexpr int n = 100000;
  for (int i = 0; i < n; ++i) {
    const float u = random_uniform(7, 1, static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.f);
    ASSERT_LT(u, 1.f);
    sum += u;
    const float z = random_normal(7, 2, static_cast<std::uint64_t>(i));
    normal_sum += z;
    normal_squares += z * z;
  }
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(normal_sum / n, 0.0, 5 / std::sqrt(n));
  EXPECT_NEAR(normal_squares / n, 1.0, 5 * std::sqrt(2.0 / n));
}

TEST(Random, PermutationHoldsEveryNumberOnceAndDependsOnSeedAndStream) {
  for (const std::uint32_t n : {0u, 1u, 2u, 1009u}) {
    auto order = random_permutation(n, 5, 9);
    EXPECT_EQ(order, random_permutation(n, 5, 9));
    if (n > 100) {
      EXPECT_NE(order, random_permutation(n, 5, 10));
      EXPECT_NE(order, random_permutation(n, 6, 9));
    }
    std::sort(order.begin(), order.end());
    for (std::uint32_t i = 0; i < n; ++i) ASSERT_EQ(order[i], i);
  }
}

TEST(Random, AKeyedPermutationHoldsEveryNumberOnceAndDependsOnSeedAndStream) {
  for (std::uint32_t n = 1; n < 300; ++n) {
    const KeyedPermutation keyed(n, 5, 9), other_seed(n, 6, 9), other_stream(n, 5, 10);
    std::vector<int> seen(n);
    std::uint32_t by_seed = 0, by_stream = 0;
    for (std::uint32_t place = 0; place < n; ++place) {
      ASSERT_LT(keyed[place], n);
      ++seen[keyed[place]];
      by_seed += keyed[place] != other_seed[place] ? 1 : 0;
      by_stream += keyed[place] != other_stream[place] ? 1 : 0;
    }
    for (const int times : seen) ASSERT_EQ(times, 1) << n;
    if (n < 50) continue;
    ASSERT_GT(by_seed, n / 2) << n;
    ASSERT_GT(by_stream, n / 2) << n;
  }
}

/// Any number is as likely in any place, and after any other: cells of 4000 draws each of 6 and of 30.
TEST(Random, AKeyedPermutationIsUniform) {
  std::vector<int> places(36), pairs(36);
  for (std::uint64_t stream = 0; stream < 4000; ++stream) {
    const KeyedPermutation keyed(6, 1, stream);
    for (std::uint32_t place = 0; place < 6; ++place) ++places[place * 6 + keyed[place]];
    ++pairs[keyed[0] * 6 + keyed[1]];
  }
  for (const int count : places) EXPECT_NEAR(count, 667, 5 * 24);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (i % 7 == 0) continue;            // no number comes after itself
    EXPECT_NEAR(pairs[i], 133, 5 * 12) << i;
  }
}

}  // namespace
}  // namespace cohort
