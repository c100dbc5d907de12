#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "comm/communicator_checks.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;

class ThreadRanks : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ThreadRanks, ::testing::Values(1, 2, 3, 4, 5, 8, 9));

TEST_P(ThreadRanks, Messages) { run_as_threads(GetParam(), testing::check_messages); }
TEST_P(ThreadRanks, ControlCollectives) { run_as_threads(GetParam(), testing::check_control_collectives); }
TEST_P(ThreadRanks, Groups) { run_as_threads(GetParam(), testing::check_groups); }
TEST_P(ThreadRanks, SharedMemory) { run_as_threads(GetParam(), testing::check_shared_memory); }
TEST_P(ThreadRanks, Deadline) { run_as_threads(GetParam(), testing::check_deadline); }

TEST(ThreadRanks, FirstErrorIsRethrownAndTheOthersAreFreed) {
  std::atomic<int> cancelled = 0;
  try {
    run_as_threads(4, [&](Communicator& c) {
      if (c.rank() == 2) throw std::runtime_error("out of coffee");
      try {
        barrier(c);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::cancelled);
        EXPECT_THAT(error.what(), HasSubstr("rank 2 ended with an error: out of coffee"));
        ++cancelled;
        throw;
      }
    });
    ADD_FAILURE() << "the error was lost";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "out of coffee");
  }
  EXPECT_EQ(cancelled, 3);
}

TEST(ThreadRanks, AFlagSetByAnotherThreadEndsAWaitThatTheActivityNames) {
  run_as_threads(2, [](Communicator& c) {
    Communicator twin = c.duplicate();
    if (c.rank() == 1) {
      barrier(c);
      return;
    }
    std::string seen;
    std::jthread watchdog([&] {
      while (twin.activity().read().operation == nullptr) std::this_thread::yield();
      seen = twin.activity().read().text();
      twin.cancel_flag()->set("the watchdog had enough");
    });
    EXPECT_THROW(
        try { barrier(twin); } catch (const Error& error) {
          EXPECT_STREQ(error.what(), "the watchdog had enough");
          throw;
        },
        Error);
    watchdog.join();
    EXPECT_EQ(seen, "rank 1 in barrier");
    int dummy = 0;                                    // c shares the flag, so free rank 1 by hand: a barrier is one message
    Transfer out(c.transport());
    out.send(1, 30000, &dummy, 0);
    while (!out.done()) std::this_thread::yield();
  });
}

TEST(NodeMap, NumbersNodesByFirstRank) {
  const NodeMap map(std::vector<int>{7, 3, 7, 9, 3});
  EXPECT_EQ(map.nodes(), 3);
  EXPECT_EQ(map.node_of(4), 1);
  EXPECT_EQ(map.local_rank(2), 1);
  EXPECT_EQ(map.text(), "5 ranks on 3 nodes: 0 2 | 1 4 | 3");
}

TEST(ThreadRanks, ForcedNodes) {
  run_as_threads(
      4, [](Communicator& c) { EXPECT_EQ(c.nodes().nodes(), 2); }, {.nodes = {0, 0, 1, 1}});
}

}  // namespace
}  // namespace cohort
