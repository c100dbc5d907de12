#include "cohort/base/thread_pool.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

TEST(ThreadPool, EveryIndexRunsOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const std::int64_t n : {0, 1, 2, 13, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(n));
      for (int round = 0; round < 20; ++round) {
        pool.parallel_for(n, 1, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
        });
      }
      for (const auto& hit : hits) ASSERT_EQ(hit.load(), 20) << threads << " threads, n " << n;
    }
  }
}

TEST(ThreadPool, AnExceptionReachesTheCallerAndThePoolLivesOn) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(3, 1, [](std::int64_t begin, std::int64_t) { if (begin == 2) throw std::runtime_error("planned"); }),
               std::runtime_error);
  std::atomic<int> ran = 0;
  pool.parallel_for(3, 1, [&](std::int64_t begin, std::int64_t end) { ran += static_cast<int>(end - begin); });
  EXPECT_EQ(ran, 3);
}

/// In a process whose memory has no room for the stacks of so many.
[[noreturn]] void start_too_many_threads() {
  double pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const auto bytes = static_cast<rlim_t>(pages * static_cast<double>(sysconf(_SC_PAGESIZE))) + (64u << 20);
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_AS, &limit);
  try {
    const ThreadPool pool(512);
  } catch (const Error& error) {
    std::fputs(error.what(), stderr);
    _exit(3);
  }
  _exit(0);
}

TEST(ThreadPoolDeathTest, AThreadThatCannotBeStartedIsAnErrorThatSaysWhatFor) {
  if (COHORT_BRIEF) GTEST_SKIP() << "sanitizers need all the memory there is";
  EXPECT_EXIT(start_too_many_threads(), ::testing::ExitedWithCode(3),
              "starting 512 threads for kernels .train.threads.: the system starts no further thread .Resource temporarily unavailable.");
}

}  // namespace
}  // namespace cohort
