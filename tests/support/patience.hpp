#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>

namespace cohort::testing {

/// Seconds after which what a test waits for will not come any more. Bounds hangs, whatever the machine's speed.
inline constexpr double kHung = 300;

/// How much longer than written the times of a test must be here and now, at least 1. They are chosen for cores that two busy
/// threads share, as `ctest -j` itself makes them; COHORT_TEST_PATIENCE asks for more. patience.py is the same for Python.
inline double patience() {
  static const double measured = [] {
    constexpr double kSpin = 0.1;
    const auto used = [] {
      timespec time{};
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
      return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    };
    const auto begin = std::chrono::steady_clock::now();
    for (const double end = used() + kSpin; used() < end;) continue;
    const double threads_per_core = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kSpin;
    const char* const asked = std::getenv("COHORT_TEST_PATIENCE");
    return std::max({1.0, threads_per_core / 2, asked == nullptr ? 1.0 : std::atof(asked)});
  }();
  return measured;
}

/// A time that a test gives to the code under test, such as a watchdog's: a thread that has to wait for a core must not be
/// taken for one that hangs.
inline double patient(double seconds) { return seconds * patience(); }

}  // namespace cohort::testing
