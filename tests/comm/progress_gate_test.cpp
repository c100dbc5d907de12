// Who may run the MPI library's progress loop while a thread is in MPI_Comm_spawn.
#include "comm/progress_gate.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

namespace cohort {
namespace {

bool passes(ProgressGate& gate) {
  bool passed = false;
  std::thread([&] { passed = static_cast<bool>(ProgressGate::Passage(gate)); }).join();
  return passed;
}

TEST(ProgressGate, IsOpenToAllAtOnceWhereNobodySpawns) {
  ProgressGate gate;
  const ProgressGate::Passage first(gate), second(gate);
  EXPECT_TRUE(first && second);
  EXPECT_TRUE(passes(gate));
}

TEST(ProgressGate, OthersPassOnlyWhileTheThreadThatSpawnsWaits) {
  ProgressGate gate;
  {
    ProgressGate::Spawning spawning(gate);
    EXPECT_TRUE(passes(gate));               // the new process is not there yet
    spawning.begin_wait();
    EXPECT_TRUE(passes(gate));
    spawning.end_wait();
    EXPECT_FALSE(passes(gate));
    spawning.begin_wait();
    EXPECT_TRUE(passes(gate));
    spawning.end_wait();
    EXPECT_FALSE(passes(gate));
  }
  EXPECT_TRUE(passes(gate));
}

TEST(ProgressGate, OfTwoSpawnsTheOneThatWaitsInVainHoldsNobodyUp) {
  ProgressGate gate;
  ProgressGate::Spawning first(gate);
  first.begin_wait();
  std::thread([&] {
    ProgressGate::Spawning second(gate);
    second.begin_wait();
    second.end_wait();
    EXPECT_FALSE(passes(gate));
  }).join();
  EXPECT_TRUE(passes(gate));
  first.end_wait();
}

TEST(ProgressGate, IsOccupiedWhileSomebodyWaitsInACallback) {
  ProgressGate gate;
  ProgressGate::Spawning spawning(gate);
  spawning.begin_wait();
  EXPECT_FALSE(gate.occupied());             // for the new process to come: in no callback
  spawning.connected();
  spawning.end_wait();
  EXPECT_FALSE(gate.occupied());
  spawning.begin_wait();
  EXPECT_TRUE(gate.occupied());
  spawning.end_wait();
  EXPECT_FALSE(gate.occupied());
}

/// Open MPI makes one communicator after the other: the second would wait for the first, with the gate closed, and the first for
/// the gate.
TEST(ProgressGate, OfTwoThatHaveConnectedOneComesAfterTheOther) {
  ProgressGate gate;
  std::optional<ProgressGate::Spawning> first(std::in_place, gate);
  first->begin_wait();
  first->connected();
  first->end_wait();
  first->begin_wait();                       // for a process that is late
  std::atomic<bool> connecting{false}, closed{false};
  std::thread other([&] {
    ProgressGate::Spawning second(gate);
    second.begin_wait();
    connecting = true;
    second.connected();
    second.end_wait();
    closed = true;
  });
  while (!connecting) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));      // where it did not wait it would be through by then
  EXPECT_FALSE(closed);
  EXPECT_TRUE(passes(gate));
  first->end_wait();
  EXPECT_FALSE(closed);
  first.reset();
  other.join();
  EXPECT_TRUE(closed);
  EXPECT_TRUE(passes(gate));
}

TEST(ProgressGate, AWaitEndsWhenTheLastOneHasLeftTheLoop) {
  ProgressGate gate;
  std::atomic<bool> ready{false}, waited{false};
  std::thread spawner;
  {
    ProgressGate::Spawning marks_the_gate_as_used(gate);
  }
  {
    const ProgressGate::Passage passage(gate);
    ASSERT_TRUE(passage);
    spawner = std::thread([&] {
      ProgressGate::Spawning spawning(gate);
      spawning.begin_wait();
      ready = true;
      spawning.end_wait();
      waited = true;
    });
    while (!ready) std::this_thread::yield();
    while (passes(gate)) std::this_thread::yield();   // it wants to go on: nobody else may enter
    EXPECT_FALSE(waited);
  }
  spawner.join();
  EXPECT_TRUE(waited);
  EXPECT_TRUE(passes(gate));
}

/// As serving a parameter task does: it asks again and again, and what it asks in the wrong moment is not run.
TEST(ProgressGate, NobodyIsInTheLoopBesideTheThreadThatSpawns) {
  ProgressGate gate;
  {
    ProgressGate::Spawning marks_the_gate_as_used(gate);
  }
  std::atomic<bool> done{false}, alone{false};
  std::atomic<int> wrong{0};
  std::thread spawner([&] {
    for (int i = 0; i < 50; ++i) {
      ProgressGate::Spawning spawning(gate);
      for (int wait = 0; wait < 3; ++wait) {
        spawning.begin_wait();
        std::this_thread::yield();
        spawning.end_wait();
        alone = true;
        std::this_thread::yield();
        alone = false;
      }
    }
    done = true;
  });
  while (!done) {
    const ProgressGate::Passage passage(gate);
    if (passage && alone) ++wrong;
  }
  spawner.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace cohort
