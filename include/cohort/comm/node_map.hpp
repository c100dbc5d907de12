#pragma once

#include <span>
#include <string>
#include <vector>

namespace cohort {

/// Which ranks of a communicator share a machine. Nodes are numbered by their first rank.
class NodeMap {
 public:
  NodeMap() = default;
  /// One label per rank; ranks with equal labels share a node. Labels may be any numbers.
  explicit NodeMap(std::span<const int> labels);

  [[nodiscard]] int ranks() const noexcept { return static_cast<int>(node_of_.size()); }
  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(ranks_.size()); }
  [[nodiscard]] int node_of(int rank) const { return node_of_.at(static_cast<std::size_t>(rank)); }
  [[nodiscard]] std::span<const int> ranks_of(int node) const { return ranks_.at(static_cast<std::size_t>(node)); }
  [[nodiscard]] int local_rank(int rank) const;         ///< position of `rank` among the ranks of its node
  [[nodiscard]] std::string text() const;               ///< "4 ranks on 2 nodes: 0 1 | 2 3"

 private:
  std::vector<int> node_of_;
  std::vector<std::vector<int>> ranks_;
};

}  // namespace cohort
