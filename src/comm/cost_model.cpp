#include "cohort/comm/cost_model.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

namespace cohort {
namespace {

constexpr double kMicro = 1e-6, kGiga = 1e9;

void bind_latency(Section& section, const char* key, const char* help, double& seconds) {
  double us = 0;
  section.bind(key, us, help, at_least(0));
  seconds = us * kMicro;
}

void bind_rate(Section& section, const char* key, const char* help, double& seconds_per_byte) {
  double gbs = 0;
  section.bind(key, gbs, help, at_least(0));
  seconds_per_byte = gbs > 0 ? 1 / (gbs * kGiga) : 0;
}

std::string link_text(const LinkConstants& link) {
  return fmt::format("{:.3g} µs and {:.3g} GB/s", link.latency / kMicro, 1 / (link.seconds_per_byte * kGiga));
}

}  // namespace

NetworkConstants::NetworkConstants(Section& section) {
  bind_latency(section, "latency_us", "of a message between nodes (µs); 0: measured, as all below", between.latency);
  bind_rate(section, "bandwidth_gbs", "of a node's line (10^9 bytes/s)", between.seconds_per_byte);
  bind_latency(section, "node_latency_us", "of a message within a node (µs)", within.latency);
  bind_rate(section, "node_bandwidth_gbs", "of messages within a node, for each rank (10^9 bytes/s)", within.seconds_per_byte);
  bind_rate(section, "sum_gbs", "of adding one bucket to another (10^9 bytes/s)", sum_seconds_per_byte);
}

std::string NetworkConstants::text() const {
  std::string text;
  if (between.known()) text = link_text(between) + " between nodes";
  if (within.known()) text += (text.empty() ? "" : ", ") + link_text(within) + " within";
  return text;
}

double CostQuery::round(double message_bytes, const std::function<int(int)>& peer) const {
  std::vector<int> leaving(static_cast<std::size_t>(nodes->nodes())), entering(leaving.size());
  bool any_within = false;
  for (int rank = 0; rank < ranks(); ++rank) {
    const int to = peer(rank);
    if (to < 0 || to == rank) continue;
    const int here = nodes->node_of(rank), there = nodes->node_of(to);
    if (here == there) any_within = true;
    if (here == there) continue;
    ++leaving[static_cast<std::size_t>(here)];
    ++entering[static_cast<std::size_t>(there)];
  }
  const int sharing = std::max(std::ranges::max(leaving), std::ranges::max(entering));
  const double message = message_bytes * wire;
  const double inside = any_within ? network->within.latency + message * network->within.seconds_per_byte : 0;
  const double outside = sharing > 0 ? network->between.latency + sharing * message * network->between.seconds_per_byte : 0;
  return std::max(inside, outside);
}

}  // namespace cohort
