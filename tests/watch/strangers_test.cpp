// Who else may connect: silent connections go, and a machine listens only where its own ranks come from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "watch/coordinator.hpp"
#include "watch/elastic.hpp"
#include "watch/interfaces.hpp"
#include "watch/socket.hpp"

namespace cohort {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::comes_true;

constexpr int kFirst = 7;

/// What the lobby of a listener makes of its guests; its time is the test's.
struct House {
  explicit House(std::size_t expected) : lobby(expected) {}

  void turn(double now) {
    lobby.take(door, now);
    lobby.hear(now, [](FrameKind kind, std::string_view body) { return kind == FrameKind::hello && body == "ours"; },
               [&](Link&& link) { admitted.push_back(std::move(link)); });
  }
  [[nodiscard]] Link visitor() const { return Link(connect_to(kLoopback, door.port, 5)); }

  Listener door{kLoopback};
  Lobby lobby;
  std::vector<Link> admitted;
};

TEST(Lobby, AdmitsWhoSaysTheWordAndShowsOutWhoSaysAnother) {
  House house(1);
  Link ours = house.visitor(), other = house.visitor();
  ours.send(FrameKind::hello, "ours");
  other.send(FrameKind::hello, "theirs");
  EXPECT_TRUE(comes_true([&] {
    house.turn(0);
    return house.admitted.size() == 1 && house.lobby.size() == 0;
  }));
  EXPECT_TRUE(comes_true([&] {
    other.receive([](FrameKind, std::string_view) {});
    return !other.open();
  }));
  ours.receive([](FrameKind, std::string_view) {});
  EXPECT_TRUE(ours.open());
}

TEST(Lobby, SilentGuestsGoAfterAWhile) {
  House house(1);
  const Link silent = house.visitor();
  ASSERT_TRUE(comes_true([&] {
    house.turn(kFirst);
    return house.lobby.size() == 1;
  }));
  house.turn(kFirst + Lobby::kPatience);
  EXPECT_EQ(house.lobby.size(), 1u);
  house.turn(kFirst + Lobby::kPatience + 0.1);
  EXPECT_EQ(house.lobby.size(), 0u);
}

TEST(Lobby, HasRoomForSoManyAndForOursBesideThem) {
  House house(2);
  constexpr std::size_t kMost = 2 + Lobby::kSpare;
  std::vector<Link> crowd;
  for (std::size_t i = 0; i < 3 * kMost; ++i) {
    crowd.push_back(house.visitor());
    house.turn(0);
    ASSERT_LE(house.lobby.size(), kMost);
  }
  Link ours = house.visitor();
  ours.send(FrameKind::hello, "ours");
  EXPECT_TRUE(comes_true([&] {
    house.turn(0);
    return house.admitted.size() == 1;
  }));
}

TEST(Coordinator, IsReachedBesideACrowdOfSilentConnections) {
  const CoordinatorOptions options{.hosts = {"node0", "node1"}, .token = 5, .timeout = 30, .only = -1};
  const Coordinator coordinator(options, Log());
  const auto port = static_cast<std::uint16_t>(std::stoi(coordinator.address()));
  std::vector<Link> crowd;
  for (int i = 0; i < 300; ++i) crowd.emplace_back(connect_to(kLoopback, port, 5));
  Link rank(connect_to(kLoopback, port, 5));
  const Hello hello{.token = 5, .rank = 1};
  rank.send(FrameKind::hello, {reinterpret_cast<const char*>(&hello), sizeof hello});
  bool welcome = false;
  EXPECT_TRUE(comes_true([&] {
    rank.receive([&](FrameKind kind, std::string_view) { welcome = welcome || kind == FrameKind::welcome; });
    return welcome;
  }));
  const auto closed = [](Link& link) {
    link.receive([](FrameKind, std::string_view) {});
    return !link.open();
  };
  EXPECT_TRUE(comes_true([&] { return std::ranges::count_if(crowd, closed) >= 300 - static_cast<int>(2 + Lobby::kSpare); }));
}

TEST(Interfaces, ComeBackFromTheirText) {
  const std::vector<Interface> some{{"eth0", "10.0.0.7", 24}, {"ib0", "192.168.5.7", 16}};
  EXPECT_EQ(interfaces_in(interfaces_text(some)), some);
  EXPECT_THAT(interfaces_in(""), IsEmpty());
  EXPECT_THAT(interfaces_in("nonsense;;a b"), IsEmpty());
}

TEST(Interfaces, AreChosenByNameAddressOrNetwork) {
  const std::vector<Interface> all{{"eth0", "10.0.0.7", 24}, {"ib0", "192.168.5.7", 16}};
  for (const char* choice : {"ib0", "192.168.5.7", "192.168.0.0/16"}) EXPECT_THAT(chosen_interfaces(all, choice), ElementsAre(all[1])) << choice;
  EXPECT_EQ(chosen_interfaces(all, "0.0.0.0/0").size(), 2u);
  for (const char* choice : {"eth1", "10.0.0.8", "11.0.0.0/8", ""}) EXPECT_THAT(chosen_interfaces(all, choice), IsEmpty()) << choice;
}

TEST(Interfaces, TheOneTowardsTheOthersIsInANetworkThatTheyShare) {
  const std::vector<Interface> mine{{"docker0", "172.17.0.1", 16}, {"eth0", "10.1.0.7", 24}, {"ib0", "10.2.0.7", 24}};
  const std::vector<Interface> near{{"docker0", "172.17.0.1", 16}, {"eth0", "10.1.0.8", 24}};
  const std::vector<Interface> fast{{"docker0", "172.17.0.1", 16}, {"ib0", "10.2.0.9", 24}};
  const std::vector<Interface> both{{"ib0", "10.2.0.9", 24}, {"eth0", "10.1.0.9", 24}};
  EXPECT_EQ(address_towards(mine, {near}), "10.1.0.7");
  EXPECT_EQ(address_towards(mine, {fast}), "10.2.0.7");
  EXPECT_EQ(address_towards(mine, {near, both}), "10.1.0.7");
  EXPECT_EQ(address_towards(mine, {near, fast}), kEverywhere);       // no single one
  EXPECT_EQ(address_towards({}, {near}), kEverywhere);
}

}  // namespace
}  // namespace cohort
