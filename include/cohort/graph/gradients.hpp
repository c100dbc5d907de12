#pragma once

#include <span>
#include <utility>
#include <vector>

#include "cohort/graph/graph.hpp"

namespace cohort {

/// What an op's gradient rule sees. All values are in the graph under construction.
class Backward {
 public:
  Backward(Graph& in_graph, int node, std::vector<Value> dy, std::vector<bool> wanted)
      : graph(in_graph), attrs(in_graph.node(node).attrs), node_(node), dy_(std::move(dy)), wanted_(std::move(wanted)) {}

  [[nodiscard]] Value x(std::size_t i) const { return graph.node(node_).inputs.at(i); }
  [[nodiscard]] Value y(int i = 0) const { return {&graph, node_, i}; }
  [[nodiscard]] Value dy(std::size_t i = 0) const;                                   ///< zeros where nothing came back
  [[nodiscard]] bool has_dy(std::size_t i = 0) const { return static_cast<bool>(dy_.at(i)); }
  [[nodiscard]] bool wants(std::size_t i) const { return wanted_.at(i); }            ///< is the gradient of input i used?
  [[nodiscard]] std::size_t inputs() const { return wanted_.size(); }

  Graph& graph;
  const Attrs& attrs;

 private:
  int node_;
  std::vector<Value> dy_;
  std::vector<bool> wanted_;
};

/// The rule of an op whose result is constant almost everywhere (comparisons, argmax, sign): nothing flows back.
[[nodiscard]] std::vector<Value> no_gradient(const Backward& b);

/// Appends the backward nodes of the scalar `loss` and returns d loss / d wrt[i], each of the shape of wrt[i]; zeros where
/// the loss does not depend on it. Error invalid_argument if the loss is not a scalar, or if a path runs through an op
/// without a gradient.
[[nodiscard]] std::vector<Value> gradients(Value loss, std::span<const Value> wrt);

}  // namespace cohort
