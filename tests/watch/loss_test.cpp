// Ranks that may be lost: the detector names them, and the others go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "cohort/watch/detector.hpp"
#include "support/patience.hpp"
#include "watch/coordinator.hpp"
#include "watch/elastic.hpp"
#include "watch/verdict.hpp"

namespace cohort {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::cancelled_text;
using testing::comes_true;
using testing::Elastic;
using testing::patient;
using testing::sleep_for;

// ---- whom the reports accuse

std::vector<RankView> views(int ranks) {
  std::vector<RankView> all(static_cast<std::size_t>(ranks));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    all[rank].host = "node" + std::to_string(rank);
    all[rank].connected = true;
    all[rank].heard = 100;
    all[rank].may_be_lost = rank > 0;
    all[rank].patience = rank > 0 ? 0.5 : 0;
  }
  return all;
}

void waits(RankView& rank, int peer, double since) {
  rank.report = Report({.operation = "pull", .peer = peer, .step = 17, .since = 1}, {.step = 17});
  rank.waiting_since = since;
}

TEST(Trouble, ARankThatMayBeLostHasAPatienceOfItsOwn) {
  std::vector<RankView> all = views(3);
  all[2].heard = 100.4;
  const auto trouble = find_trouble(all, 100.6, 2);
  ASSERT_TRUE(trouble);
  EXPECT_EQ(trouble->kind, Trouble::Kind::silent);
  EXPECT_THAT(trouble->ranks, ElementsAre(1));
  all[1].patient_since = 100.5;   // was asked for more heartbeats only then
  EXPECT_FALSE(find_trouble(all, 100.6, 2));
}

TEST(Trouble, ARankThatMayBeLostIsNotWaitedForWhenItEnds) {
  std::vector<RankView> all = views(3);
  all[2].ended = true;
  all[2].ended_at = 100;
  EXPECT_FALSE(find_trouble(all, 100 + kLossSettle / 2, 2));
  const auto trouble = find_trouble(all, 100 + kLossSettle * 1.1, 2);
  ASSERT_TRUE(trouble);
  EXPECT_THAT(trouble->ranks, ElementsAre(2));
  all[0].ended = true;   // which may not: what both have done is told at once
  all[0].ended_at = 99.5;
  EXPECT_THAT(find_trouble(all, 100.1, 2)->ranks, ElementsAre(0, 2));
}

TEST(Trouble, NobodyAsksForALostRankAgain) {
  std::vector<RankView> all = views(4);
  for (RankView& view : all) view.heard = 103;
  for (const int kind : {0, 1, 2}) {
    RankView& lost = all[static_cast<std::size_t>(kind) + 1];
    lost.lost = true;
    if (kind == 0) lost.ended = true;
    if (kind == 1) lost.failure = "no such file";
    if (kind == 2) lost.heard = 50;
  }
  EXPECT_FALSE(find_trouble(all, 103.1, 2));
  EXPECT_FALSE(settling(all));
  waits(all[0], -1, 100);   // for whoever: there is nobody else
  EXPECT_EQ(find_trouble(all, 103.1, 2)->kind, Trouble::Kind::circle);
}

TEST(Trouble, WhoStillWaitsForALostRankIsLateItself) {
  std::vector<RankView> all = views(3);
  all[2].lost = true;
  waits(all[1], 2, 100);
  for (RankView& view : all) view.heard = 102.4;
  const auto trouble = find_trouble(all, 102.5, 2);
  ASSERT_TRUE(trouble);
  EXPECT_THAT(trouble->ranks, ElementsAre(1));
}

TEST(Trouble, WhoHasLeftIsNotBlamedWhereAnotherMayBe) {
  std::vector<RankView> all = views(4);
  waits(all[0], -1, 100);
  all[1].left = all[3].left = true;
  for (RankView& view : all) view.heard = 102.4;
  EXPECT_THAT(find_trouble(all, 102.5, 2)->ranks, ElementsAre(2));
}

// ---- the coordinator, and connections that play the ranks

class FakeRank {
 public:
  FakeRank(const std::string& address, std::uint64_t token, int rank, bool welcome = true) {
    const auto port = static_cast<std::uint16_t>(std::stoi(address));
    link_ = Link(connect_to("127.0.0.1", port, 5));
    const Hello hello{.token = token, .rank = rank};
    link_.send(FrameKind::hello, {reinterpret_cast<const char*>(&hello), sizeof hello});
    if (welcome) {
      EXPECT_TRUE(hears(FrameKind::welcome));
      return;
    }
    EXPECT_TRUE(comes_true([this] { return !heard(FrameKind::welcome) && !link_.open(); }));
  }
  void report(const WaitStatus& wait = {}) {
    const Report report(wait, {.step = 7});
    link_.send(FrameKind::report, {reinterpret_cast<const char*>(&report), sizeof report});
  }
  void end() { link_.close(); }
  void goodbye() { link_.send(FrameKind::goodbye); }
  [[nodiscard]] bool heard(FrameKind kind) {
    link_.receive([&](FrameKind got, std::string_view body) { frames_.emplace_back(got, body); });
    for (const auto& [got, body] : frames_) {
      if (got == kind) last_ = body;
      if (got == kind) return true;
    }
    return false;
  }
  [[nodiscard]] bool hears(FrameKind kind) {
    return comes_true([&] { return heard(kind); });
  }
  [[nodiscard]] const std::string& body() const { return last_; }   ///< of the frame that was heard

 private:
  Link link_;
  std::vector<std::pair<FrameKind, std::string>> frames_;
  std::string last_;
};

TEST(Coordinator, ASilentRankIsLostAndLearnsItWhenItWakesUp) {
  const auto membership = std::make_shared<Membership>();
  std::mutex mutex;
  std::vector<std::string> lines;
  const Log log("", LogLevel::warning, [&](LogLevel, std::string_view line) {
    const std::lock_guard lock(mutex);
    lines.emplace_back(line);
  });
  const Coordinator coordinator({.hosts = {"a", "b", "c"}, .token = 5, .timeout = 60, .membership = membership}, log);
  std::vector<FakeRank> ranks;
  for (int rank = 0; rank < 3; ++rank) ranks.emplace_back(coordinator.address(), 5, rank);
  for (FakeRank& rank : ranks) rank.report();
  membership->allow_losses({1, 2}, patient(1.5));
  EXPECT_TRUE(ranks[1].hears(FrameKind::pace));
  double period = 0;
  ASSERT_EQ(ranks[1].body().size(), sizeof period);
  std::memcpy(&period, ranks[1].body().data(), sizeof period);
  EXPECT_DOUBLE_EQ(period, patient(1.5) / 5);

  const bool lost = comes_true([&] {   // rank 2 says nothing
    ranks[0].report();
    ranks[1].report();
    return ranks[0].heard(FrameKind::loss) && ranks[1].heard(FrameKind::loss);
  });
  ASSERT_TRUE(lost);
  EXPECT_TRUE(membership->lost(2));
  EXPECT_EQ(membership->count(), 1u);

  ASSERT_TRUE(ranks[2].hears(FrameKind::loss));   // it wakes up
  LossHead head;
  ASSERT_GE(ranks[2].body().size(), sizeof head);
  std::memcpy(&head, ranks[2].body().data(), sizeof head);
  EXPECT_EQ(head.rank, 2);
  EXPECT_GT(head.silent, patient(1.5));
  ranks[2].goodbye();                             // nobody listens
  ranks[0].goodbye();
  for (int turn = 0; turn < 20; ++turn) {
    ranks[1].report();
    EXPECT_FALSE(ranks[0].heard(FrameKind::farewell));
    sleep_for(0.005);
  }
  ranks[1].goodbye();
  EXPECT_TRUE(ranks[0].hears(FrameKind::farewell));
  EXPECT_TRUE(ranks[1].hears(FrameKind::farewell));
  EXPECT_FALSE(ranks[2].heard(FrameKind::farewell));
  const std::lock_guard lock(mutex);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], AllOf(HasSubstr("rank 2 on c does not answer (last seen in step 7, "),
                              HasSubstr("; the others go on without it")));
}

TEST(Coordinator, ALossExcusesTheWaitsBeforeIt) {
  const auto membership = std::make_shared<Membership>();
  membership->allow_losses({1, 2}, 30);
  const Coordinator coordinator({.hosts = {"a", "b", "c"}, .token = 5, .timeout = patient(2), .membership = membership},
                                Log("", LogLevel::off));
  std::vector<FakeRank> ranks;
  for (int rank = 0; rank < 3; ++rank) ranks.emplace_back(coordinator.address(), 5, rank);
  const auto wait_for_rank_2 = [&](double seconds) {
    for (const double end = Clock::steady().now() + patient(seconds); Clock::steady().now() < end; sleep_for(0.02)) {
      ranks[0].report();
      ranks[1].report({.operation = "pull", .peer = 2, .since = 1});
    }
  };
  wait_for_rank_2(1.3);
  ranks[2].end();
  wait_for_rank_2(1.3);                           // longer than the timeout by now, but not since then
  EXPECT_TRUE(membership->lost(2));
  EXPECT_EQ(membership->count(), 1u);
  EXPECT_FALSE(ranks[0].heard(FrameKind::verdict));
  wait_for_rank_2(1.5);                           // it should know better: now it is late itself
  EXPECT_TRUE(membership->lost(1));
}

TEST(Coordinator, AReplacementIsWaitedForUntilItHasLeft) {
  const auto membership = std::make_shared<Membership>();
  membership->allow_losses({1}, 30);
  const Coordinator coordinator({.hosts = {"a", "b"}, .token = 5, .timeout = 60, .membership = membership}, Log("", LogLevel::off));
  FakeRank first(coordinator.address(), 5, 0), lost(coordinator.address(), 5, 1);
  first.report();
  lost.end();
  ASSERT_TRUE(comes_true([&] { return membership->lost(1); }));
  const FakeRank early(coordinator.address(), 5, 1, false);        // nobody has replaced it yet
  membership->replace(1, "c");
  FakeRank next(coordinator.address(), 5, 1);
  const FakeRank another(coordinator.address(), 5, 1, false);      // its place is taken
  first.goodbye();
  sleep_for(0.3);
  EXPECT_FALSE(first.heard(FrameKind::farewell));
  next.goodbye();
  EXPECT_TRUE(first.hears(FrameKind::farewell));
  EXPECT_TRUE(next.hears(FrameKind::farewell));
}

// ---- whole detectors, ranks as threads

/// What the survivors see, and that they can still work together and leave.
void survive(Communicator& world, Detector& detector, int lost, const std::string& why) {
  ASSERT_TRUE(comes_true([&] { return world.membership()->count() == 1; })) << "rank " << world.rank();
  EXPECT_TRUE(world.membership()->lost(lost));
  EXPECT_THAT(world.membership()->losses()[0].reason, AllOf(HasSubstr("rank " + std::to_string(lost)), HasSubstr(why)));
  for (int peer = 1; peer < world.size(); ++peer) {
    if (peer == lost || (world.rank() != 0 && world.rank() != peer)) continue;
    int word = 1;
    Transfer transfer(world.transport());
    if (world.rank() == 0) transfer.receive(peer, 3, &word, sizeof word);
    else transfer.send(0, 3, &word, sizeof word);
    world.wait(WaitStatus{.operation = "a word", .peer = peer}, [&] { return transfer.done(); });
  }
  EXPECT_EQ(detector.verdict().kind, Verdict::Kind::none) << detector.verdict().text;
  detector.close();
  EXPECT_FALSE(world.cancel_flag()->is_set());
}

void expect_one_line(const Elastic& run, int lost) {
  ASSERT_EQ(run.lines.size(), 1u) << ::testing::PrintToString(run.lines);
  EXPECT_THAT(run.lines[0], AllOf(HasSubstr("rank " + std::to_string(lost) + " on localhost"),
                                  HasSubstr("; the others go on without it")));
}

TEST(Loss, OfARankWhoseConnectionsClose) {
  for (int ranks = 2; ranks <= 4; ++ranks) {
    for (int lost = 1; lost < ranks; ++lost) {   // rank 1, too, who watches rank 0
      const Elastic run(ranks, 30, 10, [&](Communicator& world, std::optional<Detector>& detector) {
        if (world.rank() == lost) return detector.reset();
        survive(world, *detector, lost, "ended before the job was done");
      });
      expect_one_line(run, lost);
    }
  }
}

TEST(Loss, OfARankThatReportsAnError) {
  const Elastic run(3, 30, 10, [](Communicator& world, std::optional<Detector>& detector) {
    if (world.rank() != 2) return survive(world, *detector, 2, "failed in no step yet: the disk is full");
    detector->report_failure("the disk is full");
    EXPECT_TRUE(comes_true([&] { return detector->verdict().kind == Verdict::Kind::excluded; }));
    EXPECT_THAT(cancelled_text(world), HasSubstr("its gradients are refused"));
  });
  expect_one_line(run, 2);
}

TEST(Loss, OfARankThatHoldsUpAnother) {
  for (const int lost : {1, 2}) {
    const Elastic run(3, 1, 10, [&](Communicator& world, std::optional<Detector>& detector) {
      if (world.rank() == lost) {   // busy for ever; hears of it when it looks
        EXPECT_TRUE(comes_true([&] { return detector->verdict().kind == Verdict::Kind::excluded; }));
        const std::string text = cancelled_text(world);
        EXPECT_THAT(text, HasSubstr("declared lost, its gradients are refused: rank " + std::to_string(lost) + " on localhost"));
        return;
      }
      if (world.rank() == 0) {
        int word = 0;
        Transfer transfer(world.transport());
        transfer.receive(lost, 3, &word, sizeof word);
        world.wait(WaitStatus{.operation = "a gradient", .peer = lost},
                   [&] { return transfer.done() || world.membership()->count() > 0; });
      }
      survive(world, *detector, lost, "does not move on (last seen in no step yet); waiting for it: rank 0 in a gradient");
    });
    expect_one_line(run, lost);
  }
}

TEST(Loss, OfSeveralRanksOneAfterTheOther) {
  const Elastic run(4, 30, 10, [](Communicator& world, std::optional<Detector>& detector) {
    if (world.rank() == 1) return detector.reset();
    EXPECT_TRUE(comes_true([&] { return world.membership()->count() == 1; }));
    if (world.rank() == 3) return detector.reset();
    EXPECT_TRUE(comes_true([&] { return world.membership()->count() == 2; }));
    EXPECT_TRUE(world.membership()->lost(3));
    detector->close();
  });
  EXPECT_EQ(run.lines.size(), 2u) << ::testing::PrintToString(run.lines);
}

TEST(Loss, OfTheLastRankThatHasNotLeftLetsTheOthersGo) {
  for (const int lost : {1, 3}) {
    const Elastic run(4, 30, 10, [&](Communicator& world, std::optional<Detector>& detector) {
      if (world.rank() == lost) {
        sleep_for(0.3);   // the others wait in close() by then
        return detector.reset();
      }
      detector->close();
      EXPECT_TRUE(world.membership()->lost(lost));
    });
    expect_one_line(run, lost);
  }
}

TEST(Loss, HeartbeatsBecomeAsFrequentAsTheMembershipNeeds) {
  const Elastic run(3, 60, 0, [](Communicator& world, std::optional<Detector>& detector) {   // once a second until then
    if (world.rank() == 2) sleep_for(1);   // agrees later than the others
    Elastic::allow(world, 0.9);
    sleep_for(2);
    detector->close();
    EXPECT_EQ(world.membership()->count(), 0u);
  });
  EXPECT_THAT(run.lines, IsEmpty());
}

TEST(Loss, ThatComesBeforeARankAgreesIsKept) {
  const Elastic run(3, 60, 0, [](Communicator& world, std::optional<Detector>& detector) {
    if (world.rank() == 2) sleep_for(0.5);
    Elastic::allow(world, 10);
    if (world.rank() == 1) return detector.reset();
    survive(world, *detector, 1, "ended before the job was done");
  });
  expect_one_line(run, 1);
}

TEST(Loss, OfThreadsIsNotMadeGood) {
  run_as_threads(1, [](Communicator& world) {
    try {
      (void)world.spawn(0);
      ADD_FAILURE() << "a thread cannot be spawned";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::unavailable) << error.what();
    }
  });
}

TEST(Loss, RankZeroStillEndsTheJob) {
  const Elastic run(3, 30, 10, [](Communicator& world, std::optional<Detector>& detector) {
    if (world.rank() == 0) return detector.reset();
    EXPECT_THAT(cancelled_text(world), HasSubstr("rank 0 on localhost ended before the job was done"));
    detector->acknowledge();
    EXPECT_EQ(detector->verdict().kind, Verdict::Kind::lost);
    sleep_for(0.5);   // rank 1 speaks for rank 2 as well
  });
  EXPECT_EQ(run.lines.size(), 1u) << ::testing::PrintToString(run.lines);
}

TEST(Loss, WithoutAnyCoordinatorARankEndsAlone) {
  const Elastic run(3, 30, 10, [](Communicator& world, std::optional<Detector>& detector) {
    if (world.rank() == 1) return detector.reset();
    EXPECT_TRUE(comes_true([&] { return world.membership()->count() == 1; }));
    if (world.rank() == 0) return sleep_for(0.2), detector.reset();
    EXPECT_THAT(cancelled_text(world), HasSubstr("no connection any more to rank 0 on localhost"));
    EXPECT_EQ(detector->verdict().kind, Verdict::Kind::excluded);
  });
  expect_one_line(run, 1);
}

}  // namespace
}  // namespace cohort
