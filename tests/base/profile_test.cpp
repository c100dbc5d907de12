// Time by phase on a clock that only the test moves, so every figure is known exactly.
#include "cohort/base/profile.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>
#include <vector>

#include "cohort/base/random.hpp"
#include "support/count_allocations.hpp"

namespace cohort {
namespace {

class HandClock final : public Clock {
 public:
  double now() const override { return now_; }
  void sleep(double seconds) override { now_ += seconds; }

 private:
  double now_ = 100;
};

double of(const PhaseTimes& times, Phase phase) { return times[static_cast<std::size_t>(phase)]; }

TEST(Profile, EachMomentBelongsToTheInnermostScope) {
  HandClock clock;
  Profile profile;
  profile.start(clock);
  clock.sleep(1);                                   // other
  {
    const PhaseScope computing(profile, Phase::compute);
    clock.sleep(2);
    {
      const PhaseScope communicating(profile, Phase::exchange);
      clock.sleep(4);
      {
        const PhaseScope waiting(profile, Phase::slowest);
        clock.sleep(8);
      }
      clock.sleep(16);
    }
    clock.sleep(32);
  }
  clock.sleep(64);
  profile.stop();
  clock.sleep(1000);                                // after the run: nobody's
  const PhaseTimes times = profile.times();
  EXPECT_EQ(of(times, Phase::other), 65);
  EXPECT_EQ(of(times, Phase::compute), 34);
  EXPECT_EQ(of(times, Phase::exchange), 20);
  EXPECT_EQ(of(times, Phase::slowest), 8);
  EXPECT_EQ(profile.wall(), 127);
  EXPECT_EQ(std::accumulate(times.begin(), times.end(), 0.0), 127);
}

TEST(Profile, QuantilesOfStepsAreThoseOfTheSortedDurations) {
  HandClock clock;
  Profile profile;
  profile.start(clock);
  std::vector<double> durations;
  for (std::uint64_t i = 0; i < 997; ++i) {
    durations.push_back(std::exp(12 * random_uniform(3, 5, i)) * 1e-5);    // 10 µs to 1.6 s
    profile.begin_step(static_cast<std::int64_t>(i));
    clock.sleep(durations.back() / 2);
    {
      const PhaseScope computing(profile, Phase::compute);
      clock.sleep(durations.back() / 2);
    }
    profile.end_step();
    clock.sleep(3);                                                         // between steps
  }
  std::sort(durations.begin(), durations.end());
  for (const double q : {0.0, 0.5, 0.95, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::max(0.0, std::ceil(q * 997) - 1));
    EXPECT_NEAR(profile.step_quantile(q) / durations[rank], 1, 0.006) << q;
    EXPECT_NEAR(profile.phase_quantile(Phase::compute, q) / durations[rank], 0.5, 0.003) << q;
    EXPECT_EQ(profile.phase_quantile(Phase::data, q), 0) << q;
  }
  EXPECT_EQ(profile.steps(), 997);
}

TEST(Profile, HistogramHoldsAnythingThatIsADuration) {
  DurationHistogram histogram;
  EXPECT_EQ(histogram.quantile(0.5), 0);
  for (const double seconds : {-1.0, 0.0, 1e-12, 1e9, std::nan("")}) histogram.add(seconds);
  EXPECT_EQ(histogram.count(), 5);
  EXPECT_EQ(histogram.quantile(0.5), 0);
  EXPECT_GT(histogram.quantile(1), 9e4);
}

TEST(Profile, RecordsTheStepsThatWereAskedFor) {
  HandClock clock;
  Profile profile;
  const std::uint32_t kernel = profile.name("hidden/matmul");
  TraceOptions options;
  options.record = true;
  options.first_step = 3;
  options.last_step = 4;
  profile.start(clock, options);
  for (int step = 1; step <= 6; ++step) {
    profile.begin_step(step);
    const TraceSpan span(profile, profile.main(), kernel);
    clock.sleep(1);
    { const PhaseScope waiting(profile, Phase::data); clock.sleep(1); }
    { const PhaseScope brief(profile, Phase::exchange, 1.5); clock.sleep(1); }
    profile.end_step();
  }
  profile.stop();
  std::vector<std::pair<std::string, std::int64_t>> seen;
  for (const TraceEvent& event : profile.main().events()) seen.emplace_back(profile.text(event.name), event.step);
  using Seen = decltype(seen);
  EXPECT_EQ(seen, (Seen{{"waiting for data", 3}, {"step", 3}, {"hidden/matmul", -1}, {"waiting for data", 4}, {"step", 4}, {"hidden/matmul", -1}}));
}

TEST(Profile, ATraceEndsBetweenTwoStepsWhenItsMemoryIsFull) {
  HandClock clock;
  Profile profile;
  TraceOptions options;
  options.record = true;
  options.max_events = 1024;
  profile.start(clock, options);
  const std::uint32_t kernel = profile.name("kernel");
  for (int step = 1; step <= 1000; ++step) {
    profile.begin_step(step);
    for (int k = 0; k < 10; ++k) {
      const TraceSpan span(profile, profile.main(), kernel);
      clock.sleep(1);
    }
    profile.end_step();
  }
  profile.stop();
  const auto& events = profile.main().events();
  EXPECT_EQ(profile.main().dropped(), 0);
  EXPECT_EQ(events.size() % 11, 0u);
  EXPECT_GT(events.size(), 900u);
  EXPECT_EQ(profile.text(events.back().name), "step");
}

TEST(Profile, StepsAllocateNothing) {
  for (const bool record : {false, true}) {
    Profile profile;
    TraceOptions options;
    options.record = record;
    profile.start(Clock::steady(), options);
    const std::uint32_t kernel = profile.name("kernel");
    TraceLane& other = profile.lane("other");
    const auto before = testing::allocations();
    for (int step = 1; step <= 1000; ++step) {
      profile.begin_step(step);
      const PhaseScope computing(profile, Phase::compute);
      const TraceSpan span(profile, other, kernel);
      profile.end_step();
    }
    EXPECT_EQ(testing::allocations() - before, 0u);
    EXPECT_EQ(other.events().empty(), !record);
  }
}

TEST(Profile, ALaneBelongsToAnotherThread) {
  Profile profile;
  TraceOptions options;
  options.record = true;
  TraceLane& lane = profile.lane("exchange");
  const std::uint32_t bucket = profile.name("bucket");
  profile.start(Clock::steady(), options);
  std::atomic<bool> end = false;
  std::thread thread([&] {
    while (!end) {
      const TraceSpan span(profile, lane, bucket);
      std::this_thread::yield();
    }
  });
  for (int step = 1; step <= 100; ++step) {
    profile.begin_step(step);
    std::this_thread::yield();
    profile.end_step();
  }
  end = true;
  thread.join();
  profile.stop();
  EXPECT_EQ(profile.lanes().size(), 2u);
}

}  // namespace
}  // namespace cohort
