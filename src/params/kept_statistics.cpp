#include "params/kept_statistics.hpp"

#include <set>
#include <string>

#include "cohort/graph/op.hpp"

namespace cohort {
namespace {

/// Names of the variables that some node writes: its output is the variable itself.
std::set<std::string> written_by(const Graph& graph) {
  std::set<std::string> names;
  for (int id = 0; id < graph.size(); ++id) {
    const NodeData& node = graph.node(id);
    if (!node.definition->stateful) continue;
    for (const Reuse& reuse : node.definition->reuse) {
      if (reuse.view) names.insert(graph.node(node.inputs[static_cast<std::size_t>(reuse.input)].node).name);
    }
  }
  return names;
}

}  // namespace

KeptStatistics::KeptStatistics(const Graph& graph, const Parameters& parameters) {
  const std::set<std::string> names = written_by(graph);
  for (const Parameters::Other& other : parameters.others()) {
    if (!names.contains(other.name)) continue;
    written_.push_back(other.value);
    kept_.emplace_back(other.value.device(), other.value.dtype(), other.value.shape(), other.value.ld());
  }
}

void KeptStatistics::keep() {
  for (std::size_t i = 0; i < written_.size(); ++i) kept_[i].copy_from(written_[i]);
}

void KeptStatistics::put_back() const {
  for (std::size_t i = 0; i < written_.size(); ++i) written_[i].copy_from(kept_[i]);
}

}  // namespace cohort
