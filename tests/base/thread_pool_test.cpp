#include "cohort/base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

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

}  // namespace
}  // namespace cohort
