// When learners of a replay finish their gradients.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cohort/base/error.hpp"
#include "cohort/tasks/virtual_time.hpp"

namespace cohort {
namespace {

ReplayOptions times(int learners, std::uint64_t seed = 1, double jitter = 0.2) {
  ReplayOptions options;
  options.learners = learners;
  options.seed = seed;
  options.jitter = jitter;
  return options;
}

TEST(VirtualTimes, HaveTheDistributionThatWasAskedFor) {
  ReplayOptions options = times(3, 5);
  options.stall_probability = 0.1;
  options.stall_factor = 10;
  options.slow_learner = 2;
  options.slow_factor = 3;
  const VirtualTime time(options);
  for (const int learner : {0, 1, 2}) {
    const double unit = learner == 2 ? 3 : 1;
    double sum = 0, squares = 0, least = 1e9, most = 0;
    int stalls = 0, rest = 0;
    constexpr int kMany = 20'000;
    for (int i = 0; i < kMany; ++i) {
      const double t = time.duration(learner, i) / unit;
      if (t > 2) {
        ++stalls;
        EXPECT_GE(t, 8);
        EXPECT_LE(t, 12);
        continue;
      }
      ++rest;
      sum += t, squares += t * t;
      least = std::min(least, t), most = std::max(most, t);
    }
    const double mean = sum / rest, deviation = std::sqrt(squares / rest - mean * mean);
    EXPECT_NEAR(mean, 1, 5 * 0.2 / std::sqrt(3.0) / std::sqrt(rest));
    EXPECT_NEAR(deviation, 0.2 / std::sqrt(3.0), 0.002);
    EXPECT_NEAR(least, 0.8, 0.001);
    EXPECT_NEAR(most, 1.2, 0.001);
    EXPECT_NEAR(static_cast<double>(stalls) / kMany, 0.1, 5 * 0.3 / std::sqrt(kMany));
  }
}

TEST(VirtualTimes, GoOnInOrderAndTiesAreThoseWhoBeganFirst) {
  ReplayOptions options = times(4, 1, 0);
  options.slow_learner = 1;
  VirtualTime time(options);
  for (const int learner : {3, 1, 0, 2}) time.start(learner);
  EXPECT_EQ(time.next(), 3);
  EXPECT_EQ(time.next(), 0);
  EXPECT_EQ(time.now(), 1);
  time.start(3);
  EXPECT_EQ(time.next(), 2);
  EXPECT_EQ(time.next(), 1);                           // at 2, as learner 3, but begun before it
  EXPECT_EQ(time.now(), 2);
  EXPECT_THROW(time.begin_at(7), Error);
  EXPECT_EQ(time.next(), 3);
  EXPECT_TRUE(time.idle());
  EXPECT_THROW((void)time.next(), Error);
}

TEST(VirtualTimes, DependOnSeedOriginLearnerAndNumberAlone) {
  VirtualTime a(times(3, 5)), b(times(9, 5)), c(times(3, 6));
  a.start(1);
  (void)a.next();
  EXPECT_EQ(a.duration(2, 4), b.duration(2, 4));
  EXPECT_NE(a.duration(2, 4), c.duration(2, 4));
  EXPECT_NE(a.duration(2, 4), a.duration(1, 4));
  EXPECT_NE(a.duration(2, 4), a.duration(2, 5));
  const double before = a.duration(2, 4);
  a.begin_at(12);
  EXPECT_NE(a.duration(2, 4), before);
}

}  // namespace
}  // namespace cohort
