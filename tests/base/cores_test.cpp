#include "cohort/base/cores.hpp"

#include <gtest/gtest.h>

namespace cohort {
namespace {

TEST(Cores, AreSharedByThoseWhoMayUseTheSame) {
  const std::vector<int> low = {0, 1, 2, 3}, high = {4, 5, 6, 7}, all = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(fair_share(low, {low, high}), 4);            // bound apart: each has its cores for itself
  EXPECT_EQ(fair_share(all, {all, all}), 4);             // not bound
  EXPECT_EQ(fair_share(all, {all, all, all}), 2);
  EXPECT_EQ(fair_share({3}, {{3}, {3}, {3}}), 1);        // oversubscribed
  EXPECT_FALSE(available_cores().empty());
}

}  // namespace
}  // namespace cohort
