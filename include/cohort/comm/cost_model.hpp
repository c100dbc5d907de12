#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "cohort/base/options.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/comm/node_map.hpp"

namespace cohort {

/// What a message costs: latency + bytes · seconds_per_byte (the α-β model of Hockney, 1994). 0: not known.
struct LinkConstants {
  double latency = 0;                ///< seconds
  double seconds_per_byte = 0;
  [[nodiscard]] bool known() const noexcept { return latency > 0 && seconds_per_byte > 0; }
};

/// The constants of the cost model. Those between nodes are of a node's line, which its ranks share.
struct NetworkConstants {
  LinkConstants within;              ///< two ranks of one node, while all others talk as well
  LinkConstants between;             ///< two nodes
  double sum_seconds_per_byte = 0;   ///< of adding one run of floats to another

  NetworkConstants() = default;
  /// Keys latency_us, bandwidth_gbs (between nodes), node_latency_us, node_bandwidth_gbs, sum_gbs; 0: measure.
  explicit NetworkConstants(Section& section);
  /// "25.0 µs and 0.12 GB/s between nodes, 0.6 µs and 5.1 GB/s within"
  [[nodiscard]] std::string text() const;
};

/// Collective. Measures what `given` leaves open and a communicator with this placement needs; the slowest rank counts, so all get
/// the same. Some milliseconds; below 0.2 s also over lines of 10 Mbit/s.
[[nodiscard]] NetworkConstants measure_network(Communicator& communicator, NetworkConstants given);

/// What the cost of a collective depends on: an all-reduce of `bytes`.
class CostQuery {
 public:
  double bytes = 0;                  ///< of float32
  double wire = 1;                   ///< bytes on the wire per byte of float32
  const NodeMap* nodes = nullptr;
  const NetworkConstants* network = nullptr;
  /// Seconds of the fastest algorithm between nodes with this query's options, for algorithms that are made of others.
  std::function<double(const CostQuery&)> between_nodes{};

  [[nodiscard]] int ranks() const noexcept { return nodes->ranks(); }
  /// One round in which rank r sends so many bytes of float32 to rank `peer(r)`, or nothing where that is -1 or r: the slowest link
  /// counts. Lines are full duplex and shared by the ranks of their node.
  [[nodiscard]] double round(double message_bytes, const std::function<int(int)>& peer) const;
  [[nodiscard]] double sum(double summed_bytes) const { return summed_bytes * network->sum_seconds_per_byte; }
};

}  // namespace cohort
