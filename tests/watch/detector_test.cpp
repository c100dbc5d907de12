#include "cohort/watch/detector.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/disk_progress.hpp"
#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "cohort/comm/watched.hpp"
#include "support/patience.hpp"
#include "watch/verdict.hpp"

namespace cohort {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

void sleep_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(testing::patient(seconds))); }

// ---- what the coordinator makes of its reports

struct Job {
  explicit Job(int ranks) : views(static_cast<std::size_t>(ranks)) {
    for (std::size_t r = 0; r < views.size(); ++r) {
      views[r].host = "node" + std::to_string(r);
      views[r].connected = true;
      views[r].heard = 100;
    }
  }
  RankView& operator[](int rank) { return views[static_cast<std::size_t>(rank)]; }
  void waits(int rank, int peer, double since, const char* what = "all_reduce", std::int64_t step = 17, int bucket = 3) {
    const WaitStatus wait{.operation = what, .peer = peer, .step = step, .bucket = bucket, .since = 1};
    (*this)[rank].report = Report(wait, {step, bucket});
    (*this)[rank].waiting_since = since;
  }
  [[nodiscard]] Verdict at(double now, int only = -1) const {
    const auto trouble = find_trouble(views, now, 2, only);
    return trouble ? verdict_on(views, *trouble, now) : Verdict{};
  }
  std::vector<RankView> views;
};

TEST(Judge, FindsNothingInAHealthyJob) {
  Job job(4);
  for (int r = 0; r < 4; ++r) job.waits(r, (r + 1) % 4, 99);   // all wait, but not for long
  EXPECT_EQ(job.at(100.5).kind, Verdict::Kind::none);
}

TEST(Judge, NamesTheRankThatIsSilent) {
  Job job(4);
  for (const int r : {0, 1, 3}) job.waits(r, 2, 100.1);
  job[2].report = Report({}, {.step = 16, .bucket = 1});
  for (const int r : {0, 1, 3}) job[r].heard = 101.9;
  EXPECT_EQ(job.at(101.9).kind, Verdict::Kind::none);
  for (const int r : {0, 1, 3}) job[r].heard = 102.2;
  const Verdict verdict = job.at(102.3);
  EXPECT_EQ(verdict.kind, Verdict::Kind::lost);
  EXPECT_EQ(verdict.text, "rank 2 on node2 does not answer (last seen in bucket 1 of step 16, 2.3 s ago); waiting for it: "
                          "ranks 0 1 3 in all_reduce of bucket 3 at step 17");
}

TEST(Judge, NamesTheRankThatEndedOnceTheOthersHaveSpoken) {
  Job job(3);
  job[1].ended = true;
  job[1].ended_at = 100;
  EXPECT_EQ(job.at(100.1).kind, Verdict::Kind::none);
  EXPECT_TRUE(settling(job.views));
  job.waits(0, 1, 100.2);
  EXPECT_THAT(job.at(100.3).text, AllOf(HasSubstr("rank 1 on node1 ended before the job was done"),
                                        HasSubstr("waiting for it: rank 0 in all_reduce of bucket 3 at step 17")));
}

TEST(Judge, NamesTheRankAtTheEndOfAChainOfWaits) {
  Job job(4);
  job.waits(0, 1, 100);
  job.waits(1, 3, 100);
  job[2].report = Report({}, {.step = 90, .bucket = -1});   // busy, but nobody waits for it
  for (int r = 0; r < 4; ++r) job[r].heard = 102.4;
  const std::string text = job.at(102.5).text;
  EXPECT_THAT(text, HasSubstr("rank 3 on node3 does not move on (last seen in no step yet); waiting for it: ranks 0 1 in"));
  EXPECT_THAT(text, Not(HasSubstr("rank 2")));
}

TEST(Judge, NamesIdleRanksWhenNobodySaysForWhomItWaits) {
  Job job(3);
  job.waits(0, -1, 100);
  job.waits(2, -1, 100);
  for (int r = 0; r < 3; ++r) job[r].heard = 102.4;
  EXPECT_THAT(job.at(102.5).text, HasSubstr("rank 1 on node1 does not move on"));
}

TEST(Judge, ShowsACircleOfWaits) {
  Job job(3);
  job.waits(0, 1, 100);
  job.waits(1, 2, 100);
  job.waits(2, 0, 100, "barrier", -1, -1);
  for (int r = 0; r < 3; ++r) job[r].heard = 102.4;
  EXPECT_THAT(job.at(102.5).text, AllOf(HasSubstr("the ranks wait for each other"), HasSubstr("rank 2 in barrier"),
                                        HasSubstr("ranks 0 1 in all_reduce of bucket 3 at step 17")));
}

TEST(Judge, AShortWaitIsNotTheReasonOfALongOne) {
  Job job(3);
  job.waits(0, 1, 100);
  job.waits(1, 2, 102.3);   // has just begun: rank 1 moves, so the chain ends there
  for (int r = 0; r < 3; ++r) job[r].heard = 102.4;
  EXPECT_THAT(job.at(102.5).text, HasSubstr("rank 1 on node1 does not move on"));
}

TEST(Judge, WhatASilentRankSaidLastMayBeOver) {
  Job job(3);
  for (const int r : {0, 2}) {
    job.waits(r, 1, 99.3);
    job[r].heard = 101.4;
  }
  job.waits(1, 0, 99.2, "all_reduce", 0, 0);   // was waiting when it was stopped
  job[1].heard = 99.5;
  for (const int peer : {1, -1}) {   // waited for by name, or by ranks that do not know for whom they wait
    for (const int r : {0, 2}) job[r].report.peer = peer;
    const std::string text = job.at(101.45).text;
    EXPECT_THAT(text, AllOf(HasSubstr("rank 1 on node1 does not answer"), HasSubstr("ranks 0 2 in all_reduce")));
  }
}

TEST(Judge, ARankThatHasLeftMayWaitForEver) {
  Job job(2);
  job.waits(0, 1, 100, "end of the job", -1, -1);
  job[0].left = true;
  job[0].heard = job[1].heard = 1000;
  EXPECT_EQ(job.at(1000.1).kind, Verdict::Kind::none);
}

TEST(Judge, NobodyWaitsForARankThatHasLeft) {
  Job job(2);
  job[1].left = true;
  job[1].left_at = 100;
  job.waits(0, 1, 99.9);
  job[0].heard = job[1].heard = 101;
  EXPECT_EQ(job.at(101).kind, Verdict::Kind::none);
  job[0].heard = job[1].heard = 102.1;
  EXPECT_THAT(job.at(102.1).text, HasSubstr("rank 1 on node1 has finished already; waiting for it: rank 0 in all_reduce"));
}

TEST(Judge, ARankThatWaitsForADiskIsLateWhenNothingMovesThere) {
  Job job(3);
  DiskProgress disk;
  const auto hear = [&](double now) {
    for (int r = 0; r < 3; ++r) job[r].heard = now;
    return job[1].hear(Report({}, {.step = 17}, &disk), now);
  };
  disk.begin("runs/a/checkpoints/.writing-step-0000000017.h5");
  EXPECT_TRUE(hear(100)) << "it has just begun";
  for (const double now : {101.5, 103.0, 104.5}) {
    EXPECT_FALSE(hear(now - 0.5));
    disk.moved(1 << 20);
    EXPECT_TRUE(hear(now));
    EXPECT_EQ(job.at(now).kind, Verdict::Kind::none) << now;
  }
  job.waits(0, 1, 104.5);
  hear(106);
  EXPECT_EQ(job.at(106).kind, Verdict::Kind::none);
  hear(107);
  EXPECT_THAT(job.at(107).text, AllOf(HasSubstr("rank 1 on node1 does not move on (last seen in writing .writing-step-0000000017.h5, "), HasSubstr(" MB/s)"),
                                      HasSubstr("waiting for it: rank 0 in all_reduce of bucket 3 at step 17")));
  job[0].report = {};
  EXPECT_THAT(job.at(107).text, HasSubstr("rank 1 on node1 does not move on")) << "though nobody waits for it";
}

TEST(Judge, AnErrorExplainsTheEndAndTheWaits) {
  Job job(3);
  job[2].failure = "no such file";
  job[2].failed_in = "bucket 1 of step 16";
  job[2].failed_at = 100;
  job.waits(0, 2, 90);
  EXPECT_EQ(job.at(100.9).kind, Verdict::Kind::none);
  EXPECT_EQ(job.at(101.1).kind, Verdict::Kind::failed);
  job[2].ended = true;
  job[2].ended_at = 100.1;
  const Verdict verdict = job.at(101.1);
  EXPECT_EQ(verdict.kind, Verdict::Kind::lost);   // it cannot print its error any more: the coordinator does
  EXPECT_THAT(verdict.text, AllOf(HasSubstr("rank 2 on node2 failed in bucket 1 of step 16"), HasSubstr("no such file")));
}

TEST(Judge, TheFirstErrorWinsUnlessAllFail) {
  Job job(2);
  job[1].failure = "first";
  job[1].failed_at = 100;
  job[0].failure = "second";
  job[0].failed_at = 100.5;
  EXPECT_EQ(job.at(105).kind, Verdict::Kind::none);   // all have failed: they conclude among themselves
  job.views.emplace_back();
  job.views.back().connected = true;
  job.views.back().heard = 105;
  EXPECT_THAT(job.at(105).text, HasSubstr("first"));
}

TEST(Judge, TheDeputyJudgesRankZeroAlone) {
  Job job(3);
  job[2].ended = true;
  job.waits(1, 2, 50);
  EXPECT_EQ(job.at(100.5, 0).kind, Verdict::Kind::none);
  EXPECT_THAT(job.at(103, 0).text, HasSubstr("rank 0 on node0 does not answer"));
}

// ---- whole detectors, ranks as threads

/// Runs `body` on every rank with a detector of its own, and keeps the lines that all ranks log.
class Watched {
 public:
  using Body = std::function<void(Communicator&, Detector&)>;

  /// `timeout` is stretched as sleep_for is. `nodes`: as if the ranks were spread over that many machines.
  Watched(int ranks, double timeout, const Body& body, int nodes = 1) : verdicts(static_cast<std::size_t>(ranks)) {
    run_as_threads(ranks, [&](Communicator& plain) {
      Context context = plain.context();
      context.log = Log("", LogLevel::warning, [this](LogLevel, std::string_view line) {
        const std::lock_guard lock(mutex_);
        lines.emplace_back(line);
      });
      std::vector<int> labels = everybody(ranks);
      for (int& label : labels) label %= nodes;
      Communicator world(plain.transport().subgroup(everybody(ranks), 29000), context, NodeMap(labels));
      world.set_timeout(testing::kHung);
      DetectorOptions options;
      options.timeout = testing::patient(timeout);
      Detector detector(watched(world), options, [this](const Verdict&) { ++last_resorts; });
      body(world, detector);
      verdicts[static_cast<std::size_t>(world.rank())] = detector.verdict();
      barrier(plain);   // the detectors go when all have seen what they should
    });
  }

  std::vector<Verdict> verdicts;
  std::vector<std::string> lines;
  std::atomic<int> last_resorts{0};

 private:
  static std::vector<int> everybody(int ranks) {
    std::vector<int> members;
    for (int rank = 0; rank < ranks; ++rank) members.push_back(rank);
    return members;
  }
  std::mutex mutex_;
};

/// A training loop's skeleton: three buckets per step.
class Loop {
 public:
  explicit Loop(Communicator& communicator) : data_(300), collective_(make_collective(communicator, {})) {
    for (int b = 0; b < 3; ++b) {
      works_.push_back(&collective_->all_reduce({.id = b, .data = data_.data() + b * 100, .n = 100}));
    }
  }
  void exchange(std::int64_t step, std::size_t bucket) {
    works_[bucket]->start(step);
    works_[bucket]->wait();
  }
  void steps(std::int64_t n) {
    for (std::int64_t step = 0; step < n; ++step) {
      for (std::size_t b = 0; b < works_.size(); ++b) exchange(step, b);
    }
  }

 private:
  std::vector<float> data_;
  std::unique_ptr<Collective> collective_;
  std::vector<Work*> works_;
};

std::string cancelled_text(const std::function<void()>& wait) {
  try {
    wait();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::cancelled) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(Detector, IsNotThereForOneRankNorWithoutTimeout) {
  const Watched one(1, 2, [](Communicator&, Detector& detector) {
    EXPECT_FALSE(detector.active());
    detector.close();
  });
  const Watched off(2, 0, [](Communicator& world, Detector& detector) {
    EXPECT_FALSE(detector.active());
    Loop(world).steps(3);
    detector.close();
  });
  EXPECT_TRUE(off.lines.empty());
}

TEST(Detector, OrdinaryEndsAtDifferentTimesAreSilent) {
  for (const int ranks : {2, 3, 5}) {
    std::atomic<int> at_work{ranks};
    const Watched run(ranks, 1, [&](Communicator& world, Detector& detector) {
      EXPECT_TRUE(detector.active());
      Loop(world).steps(20);
      sleep_for(world.rank() == ranks - 1 ? 1.5 : 0.1 * world.rank());   // the last one keeps all longer than the timeout
      --at_work;
      detector.close();
      EXPECT_EQ(at_work, 0) << "close() returned on rank " << world.rank() << " before all had come";
    });
    EXPECT_THAT(run.lines, ::testing::IsEmpty());
    for (const Verdict& verdict : run.verdicts) EXPECT_EQ(verdict.kind, Verdict::Kind::none) << verdict.text;
  }
}

TEST(Detector, ConnectsByTheAddressesOfTheMachineWhereThereAreSeveral) {
  const Watched run(4, 10, [](Communicator& world, Detector& detector) {
    EXPECT_TRUE(detector.active());
    Loop(world).steps(5);
    detector.close();
  }, 2);
  EXPECT_THAT(run.lines, ::testing::IsEmpty());
}

TEST(Detector, NamesTheRankThatHoldsUpTheOthers) {
  for (const int ranks : {2, 4}) {
    const int culprit = ranks / 2;
    const Watched run(ranks, 1.5, [&](Communicator& world, Detector& detector) {
      Loop loop(world);
      loop.steps(5);
      const std::string text = cancelled_text([&] {
        loop.exchange(5, 0);
        if (world.rank() == culprit) world.wait(WaitStatus{}, [&] {
          if (world.cancel_flag()->is_set()) return false;
          return sleep_for(0.1), false;   // computes, does not publish any wait
        });
        loop.exchange(5, 1);
      });
      detector.acknowledge();
      EXPECT_THAT(text, AllOf(HasSubstr("rank " + std::to_string(culprit) + " on localhost does not move on"),
                              HasSubstr("bucket 0 of step 5"), HasSubstr("in all_reduce of bucket 1 at step 5")));
    });
    ASSERT_EQ(run.lines.size(), 1u) << ::testing::PrintToString(run.lines);
    for (const Verdict& verdict : run.verdicts) {
      EXPECT_EQ(verdict.kind, Verdict::Kind::lost);
      EXPECT_THAT(run.lines[0], HasSubstr(verdict.text));
    }
    EXPECT_EQ(run.last_resorts, 0);
  }
}

/// The others wait longer than any limit allows, until the disk has done its work; and for one that does nothing no longer than that.
TEST(Detector, AWaitForASlowDiskIsNoHang) {
  for (const bool moves : {true, false}) {
    const Watched run(3, 1, [&](Communicator& world, Detector& detector) {
      world.set_timeout(moves ? 2.5 : 30);
      const auto disk = std::make_shared<DiskProgress>();
      const std::string text = cancelled_text([&] {
        if (world.rank() == 1) {
          disk->begin("step-1.h5");
          world.rank_activity()->begin_disk_wait(disk);
          for (int tenth = 0; tenth < 50 && !world.cancel_flag()->is_set(); ++tenth) {
            sleep_for(0.1);
            if (moves) disk->moved(1000);
          }
          world.rank_activity()->end_disk_wait(disk.get());
        }
        barrier(world);
      });
      detector.acknowledge();
      if (moves) EXPECT_EQ(text, "no error");
      else EXPECT_THAT(text, HasSubstr("rank 1 on localhost does not move on (last seen in writing step-1.h5, 0 MB/s)"));
      if (moves) detector.close();
    });
    EXPECT_EQ(run.lines.size(), moves ? 0u : 1u) << ::testing::PrintToString(run.lines);
  }
}

TEST(Detector, AReportedErrorReachesTheOthers) {
  const Watched run(3, 30, [](Communicator& world, Detector& detector) {
    Loop loop(world);
    loop.steps(4);
    if (world.rank() == 1) return detector.report_failure("the disk is full"), sleep_for(1.5);
    const std::string text = cancelled_text([&] { loop.exchange(4, 0); });
    detector.acknowledge();
    EXPECT_THAT(text, AllOf(HasSubstr("rank 1 on localhost failed in bucket 2 of step 3"), HasSubstr("the disk is full")));
  });
  EXPECT_THAT(run.lines, ::testing::IsEmpty());   // the rank itself prints its error
  EXPECT_EQ(run.verdicts[0].kind, Verdict::Kind::failed);
}

TEST(Detector, RanksThatFailAlikeAreLeftAlone) {
  const Watched run(3, 30, [](Communicator&, Detector& detector) {
    detector.report_failure("the same");
    sleep_for(1.3);
    detector.close();
  });
  EXPECT_THAT(run.lines, ::testing::IsEmpty());
  for (const Verdict& verdict : run.verdicts) EXPECT_EQ(verdict.kind, Verdict::Kind::none) << verdict.text;
}

TEST(Detector, ARankThatDoesNotComeOutIsEndedByTheLastResort) {
  const Watched run(2, 0.4, [](Communicator& world, Detector& detector) {
    if (world.rank() == 0) return sleep_for(0.4 + Detector::kGrace + 1);   // stuck, outside any wait
    (void)cancelled_text([&] { barrier(world); });
    detector.acknowledge();
  });
  EXPECT_EQ(run.last_resorts, 1);
}

TEST(Detector, NamesTheRankWhoseConnectionsClose) {
  for (int ranks = 2; ranks <= 4; ++ranks) {
    for (int culprit = 0; culprit < ranks; ++culprit) {
      std::mutex mutex;
      std::vector<std::string> lines;
      run_as_threads(ranks, [&](Communicator& world) {
        Communicator group = world.duplicate();   // a cancel flag of this rank only
        DetectorOptions options;
        options.timeout = testing::kHung;
        auto detector = std::make_unique<Detector>(watched(group), options, [](const Verdict&) {});
        Loop loop(group);
        loop.steps(3);
        if (world.rank() == culprit) {
          detector.reset();
          return;
        }
        const std::string text = cancelled_text([&] { loop.exchange(3, 0); });
        detector->acknowledge();
        EXPECT_THAT(text, AllOf(HasSubstr("rank " + std::to_string(culprit) + " on localhost ended before the job was done"),
                                HasSubstr("in all_reduce of bucket 0 at step 3")));
        const std::lock_guard lock(mutex);
        lines.push_back(text);
      }, {.log = LogLevel::off});
      ASSERT_EQ(lines.size(), static_cast<std::size_t>(ranks - 1));
      for (const std::string& line : lines) EXPECT_EQ(line, lines[0]);
    }
  }
}

}  // namespace
}  // namespace cohort
