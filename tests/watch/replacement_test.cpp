// A process that takes a lost rank's place: what a membership remembers of it, and who watches it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

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
