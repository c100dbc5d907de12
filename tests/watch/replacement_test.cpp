// A process that takes a lost rank's place: what a membership remembers of it, and who watches it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "comm/counting_transport.hpp"
#include "support/patience.hpp"
#include "watch/elastic.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::cancelled_text;
using testing::comes_true;
using testing::Elastic;
using testing::sleep_for;

/// A new process for rank 3, whose world is itself alone: what `Communicator::spawn` tells it, and its detector.
class Successor {
 public:
  Successor(Communicator& before, const std::string& door) : alone_(before.alone()) {
    alone_.share(std::make_shared<Membership>());
    alone_.membership()->allow_losses({3}, testing::patient(1));
    alone_.membership()->set_door(door);
    DetectorOptions options;
    options.timeout = testing::kHung;
    detector = Detector::of_replacement(watched_replacement(alone_), options, [](const Verdict&) {});
  }
  [[nodiscard]] Communicator& world() noexcept { return alone_; }

 private:
  Communicator alone_;

 public:
  std::unique_ptr<Detector> detector;
};

/// One rank and a new process that never says a word. Gives up after a while, and keeps whom the watchdog was told to wait for.
class Silence : public testing::CountingTransport {
 public:
  Silence(std::unique_ptr<Transport> below, const Communicator& tasks, WaitStatus& told)
      : CountingTransport(std::move(below), std::make_shared<std::atomic<std::int64_t>>()), activity_(tasks.rank_activity()),
        cancel_(tasks.cancel_flag()), told_(told) {}
  int size() const noexcept override { return 2; }
  Request isend(int, int, const void*, std::size_t) override { return Request(0); }
  Request irecv(int, int, void*, std::size_t) override { return Request(0); }
  bool test(Request&) override {
    told_ = activity_->longest_wait();
    if (told_.operation != nullptr || Clock::steady().now() > until_) cancel_->set("enough");
    return false;
  }
  void abandon(Request& request) noexcept override { request.clear(); }

 private:
  std::shared_ptr<RankActivity> activity_;
  std::shared_ptr<CancelFlag> cancel_;
  WaitStatus& told_;
  double until_ = Clock::steady().now() + 1;
};

class Launching : public testing::CountingTransport {
 public:
  Launching(std::unique_ptr<Transport> below, const std::optional<Communicator>& tasks, WaitStatus& told)
      : CountingTransport(std::move(below), std::make_shared<std::atomic<std::int64_t>>()), tasks_(tasks), told_(told) {}
  std::unique_ptr<Transport> spawn(const std::string&, const std::vector<std::string>&) override {
    return std::make_unique<Silence>(twin(), *tasks_, told_);
  }

 private:
  const std::optional<Communicator>& tasks_;
  WaitStatus& told_;
};

/// It has no rank yet: rank 1 of two, which it would be taken for, is another's.
TEST(Replacement, OnItsWayIsNobodyWhomTheWatchdogWaitsFor) {
  run_as_threads(1, [](Communicator& world) {
    WaitStatus told;
    Context context = world.context();
    context.launches = true;
    std::optional<Communicator> tasks;
    tasks.emplace(std::make_unique<Launching>(world.transport().twin(), tasks, told), context, world.nodes(), world.cancel_flag());
    EXPECT_THROW((void)tasks->spawn(3), Error);
    EXPECT_EQ(told.operation, nullptr) << told.text();
  });
}

TEST(Replacement, IsMissedAsTheRankBeforeIt) {
  for (const bool dies : {false, true}) {
    std::promise<std::string> door;
    const Elastic run(4, 30, 1, [&](Communicator& world, std::optional<Detector>& detector) {
      if (world.rank() == 3) {
        detector.reset();
        Successor next(world, door.get_future().get());
        if (dies) return next.detector.reset();
        sleep_for(1.5);                                      // longer than a silent one may be
        next.detector->close();
        EXPECT_EQ(next.detector->verdict().kind, Verdict::Kind::none) << next.detector->verdict().text;
        return;
      }
      ASSERT_TRUE(comes_true([&] { return world.membership()->lost(3); }));
      world.membership()->replace(3, "elsewhere");
      EXPECT_FALSE(world.membership()->lost(3));
      if (world.rank() == 0) door.set_value(world.membership()->door());
      if (world.rank() == 0 && dies) {
        EXPECT_TRUE(comes_true([&] { return world.membership()->lost(3); }));
      }
      detector->close();
      if (world.rank() == 0) {
        EXPECT_EQ(world.membership()->count(), dies ? 2u : 1u);
      }
    });
    ASSERT_EQ(run.lines.size(), dies ? 2u : 1u) << ::testing::PrintToString(run.lines);
    EXPECT_THAT(run.lines[0], HasSubstr("rank 3 on localhost ended before the job was done"));
    if (dies) {
      EXPECT_THAT(run.lines[1], HasSubstr("rank 3 on elsewhere ended before the job was done"));
    }
  }
}

TEST(Replacement, EndsWhenRankZeroIsGone) {
  std::promise<std::string> door;
  const Elastic run(4, 30, 1, [&](Communicator& world, std::optional<Detector>& detector) {
    if (world.rank() == 3) {
      detector.reset();
      Successor next(world, door.get_future().get());
      EXPECT_THAT(cancelled_text(next.world()), HasSubstr("no connection any more to rank 0 on localhost"));
      EXPECT_EQ(next.detector->verdict().kind, Verdict::Kind::excluded);
      return;
    }
    ASSERT_TRUE(comes_true([&] { return world.membership()->lost(3); }));
    if (world.rank() == 0) {
      world.membership()->replace(3, "elsewhere");
      door.set_value(world.membership()->door());
      sleep_for(0.5);
      return detector.reset();
    }
    detector->acknowledge();
    EXPECT_TRUE(comes_true([&] { return detector->verdict().kind == Verdict::Kind::lost; }));
  });
}

TEST(Membership, RemembersWhatHappenedInOrder) {
  Membership membership;
  membership.lose(1, "not one that may be");
  EXPECT_EQ(membership.count(), 0u);
  membership.allow_losses({1, 2}, 5);
  membership.replace(1, "a host");                           // it is there
  EXPECT_THAT(membership.changes(0), IsEmpty());
  membership.lose(1, "first");
  membership.lose(1, "again, without having been replaced");
  membership.replace(1, "b");
  EXPECT_FALSE(membership.lost(1));
  EXPECT_EQ(membership.times_lost(1), 1);
  EXPECT_EQ(membership.times_lost(2), 0);
  membership.lose(1, "second");
  EXPECT_TRUE(membership.lost(1));
  EXPECT_EQ(membership.count(), 2u);
  ASSERT_EQ(membership.losses().size(), 2u);
  EXPECT_EQ(membership.losses()[1].reason, "second");
  const std::vector<Membership::Change> changes = membership.changes(1);
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_FALSE(changes[0].lost);
  EXPECT_EQ(changes[0].text, "b");
  EXPECT_TRUE(changes[1].lost);
  EXPECT_THAT(membership.changes(7), IsEmpty());
}

}  // namespace
}  // namespace cohort
