#include "cohort/comm/node_map.hpp"

#include <algorithm>
#include <map>

namespace cohort {

NodeMap::NodeMap(std::span<const int> labels) {
  std::map<int, int> node_of_label;
  for (std::size_t rank = 0; rank < labels.size(); ++rank) {
    const auto [at, fresh] = node_of_label.try_emplace(labels[rank], nodes());
    if (fresh) ranks_.emplace_back();
    node_of_.push_back(at->second);
    ranks_[static_cast<std::size_t>(at->second)].push_back(static_cast<int>(rank));
  }
}

int NodeMap::local_rank(int rank) const {
  const std::span<const int> ranks = ranks_of(node_of(rank));
  return static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

std::string NodeMap::text() const {
  std::string text = std::to_string(node_of_.size()) + (node_of_.size() == 1 ? " rank on " : " ranks on ") +
                     std::to_string(nodes()) + (nodes() == 1 ? " node:" : " nodes:");
  for (int node = 0; node < nodes(); ++node) {
    if (node > 0) text += " |";
    for (const int rank : ranks_of(node)) text += " " + std::to_string(rank);
  }
  return text;
}

}  // namespace cohort
