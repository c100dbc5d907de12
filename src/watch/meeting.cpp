#include "watch/meeting.hpp"

#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <random>
#include <span>
#include <sstream>
#include <string_view>
#include <utility>

#include "cohort/base/error.hpp"
#include "watch/interfaces.hpp"

namespace cohort {
namespace {

constexpr double kConnectSeconds = 5;      // to each address of a coordinator

/// A coordinator's welcome, which proves that it is ours: other jobs and other machines may listen at the same address.
bool greet(Link& link, const Hello& hello) {
  link.send(FrameKind::hello, as_body(hello));
  bool welcome = false;
  for (const double end = steady_seconds() + kConnectSeconds; steady_seconds() < end && link.open() && !welcome;) {
    pollfd waiting{.fd = link.fd(), .events = POLLIN, .revents = 0};
    poll(&waiting, 1, 100);
    link.receive([&](FrameKind kind, std::string_view body) {
      welcome = kind == FrameKind::welcome && body == as_body(hello);
    });
  }
  return welcome;
}

/// Closed if the coordinator cannot be reached.
Link connect_to_coordinator(const std::string& address, const Hello& hello) {
  std::istringstream words(address);
  std::uint16_t port = 0;
  words >> port;
  for (std::string host; words >> host;) {
    Link link(connect_to(host, port, kConnectSeconds));
    if (link.open() && greet(link, hello)) return link;
  }
  return {};
}

/// Collective. The address by which all other machines reach this one; of ranks 0 and 1 the user's choice is checked by all alike.
std::string where_to_listen(const WatchedRank& rank, WatchChannel& channel, const std::string& choice, const std::vector<std::string>& hosts) {
  const std::vector<int>& machines = rank.machines;
  if (std::ranges::all_of(machines, [&](int machine) { return machine == machines[0]; })) return kLoopback;
  std::vector<std::vector<Interface>> all;
  for (const std::string& text : channel.all_gather(interfaces_text(interfaces_of_this_machine()))) all.push_back(interfaces_in(text));
  if (choice == "all") return kEverywhere;
  for (std::size_t c = 0; choice != "auto" && c < kCoordinators; ++c) {
    check(!chosen_interfaces(all[c], choice).empty(), Code::invalid_argument,
          fmt::format("watchdog.interface = \"{}\": rank {} on {} has no such interface or address, but: {}", choice, c, hosts[c],
                      interfaces_text(all[c])));
  }
  std::vector<std::vector<Interface>> others;
  const std::size_t me = static_cast<std::size_t>(rank.context.rank);
  for (std::size_t other = 0; other < machines.size(); ++other) {
    if (machines[other] != machines[me]) others.push_back(all[other]);
  }
  const std::vector<Interface>& mine = all[me];
  const std::vector<Interface> chosen = choice == "auto" ? mine : chosen_interfaces(mine, choice);
  return chosen.size() == 1 ? chosen.front().address : address_towards(chosen, others);
}

/// Collective. Starts this rank's coordinator, if it has one, and returns the addresses of all.
std::vector<std::string> start_coordinators(Meeting& meeting, const WatchedRank& rank, WatchChannel& channel, const DetectorOptions& options,
                                            std::uint64_t token) {
  const std::string listen = where_to_listen(rank, channel, options.interface, meeting.hosts);
  const int me = rank.context.rank;
  std::string address;
  if (me < static_cast<int>(kCoordinators)) {
    meeting.coordinator = std::make_unique<Coordinator>(
        CoordinatorOptions{.hosts = meeting.hosts, .token = token, .timeout = options.timeout, .period = meeting.period,
                           .only = me == 0 ? -1 : 0, .listen = listen, .rank = me, .membership = rank.membership},
        rank.context.log);
    address = meeting.coordinator->address();
  }
  return channel.all_gather(address);
}

}  // namespace

std::optional<Meeting> meet_coordinators(const WatchedRank& rank, WatchChannel& channel, const DetectorOptions& options) {
  Meeting meeting;
  meeting.period = options.period();
  meeting.hosts = channel.all_gather(rank.context.host);
  std::uint64_t token = 0;
  const int me = rank.context.rank;
  if (me == 0) token = (std::uint64_t{std::random_device{}()} << 32) ^ std::random_device{}();
  channel.broadcast(std::as_writable_bytes(std::span(&token, 1)));
  const std::vector<std::string> addresses = start_coordinators(meeting, rank, channel, options, token);
  std::string unreachable;
  for (std::size_t c = 0; c < kCoordinators; ++c) {
    meeting.links[c] = connect_to_coordinator(addresses[c], {.token = token, .rank = me});
    if (!meeting.links[c].open()) unreachable = fmt::format("rank {} on {} at {}", c, meeting.hosts[c], addresses[c]);
  }
  const std::vector<std::string> failed = channel.all_gather(unreachable);
  const auto first = std::ranges::find_if(failed, [](const std::string& text) { return !text.empty(); });
  if (first == failed.end()) {
    if (me == 0) rank.membership->set_door(fmt::format("{} {} {}", meeting.hosts[0], token, addresses[0]));
    return meeting;
  }
  meeting.coordinator.reset();
  if (me == 0) {
    const auto cut_off = static_cast<std::size_t>(first - failed.begin());
    rank.context.log.warning(fmt::format("no watchdog: rank {} on {} cannot connect to {}; ranks in trouble are only "
                                         "noticed by long waits", cut_off, meeting.hosts[cut_off], *first));
  }
  return {};
}

Meeting meet_at_door(const WatchedRank& rank, const DetectorOptions& options) {
  Meeting meeting;
  std::istringstream words(rank.membership->door());
  std::uint64_t token = 0;
  words >> meeting.hosts.emplace_back() >> token >> std::ws;
  std::string address;
  std::getline(words, address);
  meeting.links[0] = connect_to_coordinator(address, {.token = token, .rank = rank.context.rank});
  meeting.period = std::min(options.period(), rank.membership->heartbeat_timeout() / kBeats);
  check(meeting.links[0].open(), Code::unavailable,
        fmt::format("rank {} cannot connect to rank 0 on {}, which watches over the ranks", rank.context.rank, meeting.hosts[0]));
  return meeting;
}

}  // namespace cohort
