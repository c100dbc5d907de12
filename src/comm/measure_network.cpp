#include <algorithm>
#include <limits>
#include <vector>

#include "cohort/comm/control.hpp"
#include "cohort/comm/cost_model.hpp"

namespace cohort {
namespace {

constexpr int kTag = 29'999;                 // below the tag of control data
constexpr int kShortMessages = 20;
constexpr double kLongEnough = 0.01;         // seconds of a message from which its rate is known

/// Whom this rank sends to and hears from in a measurement; -1: it stays out.
struct Partners {
  int to = -1, from = -1;
};

/// Pairs on every node, all at once, so that they share the memory as they will later.
Partners on_this_node(const Communicator& c) {
  const auto ranks = c.nodes().ranks_of(c.nodes().node_of(c.rank()));
  const int local = c.nodes().local_rank(c.rank()), peer = local ^ 1;
  if (peer >= static_cast<int>(ranks.size())) return {};
  return {.to = ranks[static_cast<std::size_t>(peer)], .from = ranks[static_cast<std::size_t>(peer)]};
}

/// The first ranks of the nodes, around a ring: every line is busy both ways.
Partners on_the_next_node(const Communicator& c) {
  const NodeMap& nodes = c.nodes();
  const int node = nodes.node_of(c.rank()), m = nodes.nodes();
  if (m == 1 || nodes.local_rank(c.rank()) != 0) return {};
  return {.to = nodes.ranks_of((node + 1) % m).front(), .from = nodes.ranks_of((node + m - 1) % m).front()};
}

double exchange(Communicator& c, const Partners& partners, std::vector<std::byte>& out, std::vector<std::byte>& in,
                std::size_t bytes) {
  const double start = c.context().clock->now();
  if (partners.to >= 0) {
    Transfer receive(c.transport()), send(c.transport());
    receive.receive(partners.from, kTag, in.data(), bytes);
    send.send(partners.to, kTag, out.data(), bytes);
    c.wait(WaitStatus{.operation = "measurement of the network", .peer = partners.from}, [&] { return receive.done(); });
    c.wait(WaitStatus{.operation = "measurement of the network", .peer = partners.to}, [&] { return send.done(); });
  }
  return c.context().clock->now() - start;
}

/// Two sizes give the rate, so that neither latency nor what a line takes in one burst counts.
LinkConstants measure_link(Communicator& c, const Partners& partners) {
  constexpr std::size_t kLongest = 4u << 20;
  std::vector<std::byte> out(kLongest), in(kLongest);
  double latency = std::numeric_limits<double>::infinity();
  barrier(c);
  for (int i = 0; i < kShortMessages; ++i) latency = std::min(latency, exchange(c, partners, out, in, 8));
  latency = all_reduce(c, latency, Reduce::max);
  double before = latency;
  std::size_t bytes_before = 8;
  double seconds_per_byte = 0;
  for (std::size_t bytes = kLongest / 64; bytes <= kLongest; bytes *= 4) {
    barrier(c);
    double seconds = exchange(c, partners, out, in, bytes);
    // What all know decides, since both ends must do the same.
    if (before < kLongEnough / 8) seconds = std::min(seconds, exchange(c, partners, out, in, bytes));
    seconds = all_reduce(c, seconds, Reduce::max);
    seconds_per_byte = std::max(seconds - before, seconds / 4) / static_cast<double>(bytes - bytes_before);
    before = seconds;
    bytes_before = bytes;
    if (seconds > kLongEnough) break;
  }
  return {.latency = std::max(latency, 1e-8), .seconds_per_byte = seconds_per_byte};
}

double measure_sum(const Communicator& c) {
  constexpr std::size_t kFloats = 64 * 1024;
  std::vector<float> x(kFloats, 1.f), y(kFloats, 2.f);
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 5; ++i) {
    const double start = c.context().clock->now();
    for (std::size_t k = 0; k < kFloats; ++k) y[k] += x[k];
    least = std::min(least, c.context().clock->now() - start);
    std::swap(x, y);   // the result is needed
  }
  return least / (kFloats * sizeof(float));
}

void complete(LinkConstants& given, const LinkConstants& measured) {
  if (given.latency <= 0) given.latency = measured.latency;
  if (given.seconds_per_byte <= 0) given.seconds_per_byte = measured.seconds_per_byte;
}

}  // namespace

NetworkConstants measure_network(Communicator& c, NetworkConstants given) {
  const NodeMap& nodes = c.nodes();
  if (nodes.nodes() < nodes.ranks() && !given.within.known()) complete(given.within, measure_link(c, on_this_node(c)));
  if (nodes.nodes() > 1 && !given.between.known()) complete(given.between, measure_link(c, on_the_next_node(c)));
  if (given.sum_seconds_per_byte <= 0) given.sum_seconds_per_byte = all_reduce(c, measure_sum(c), Reduce::max);
  return given;
}

}  // namespace cohort
