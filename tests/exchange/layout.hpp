#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cohort/exec/session.hpp"
#include "cohort/params/parameters.hpp"

namespace cohort::testing {

/// Trained vectors of so many elements, in the order in which they lie in the flat index space.
class Layout {
 public:
  explicit Layout(const std::vector<std::int64_t>& sizes, std::int64_t small = 0)
      : session_(define(graph_, sizes)), parameters_(session_, ParameterLayout(graph_, groups, is_small(small)), {}) {}

  [[nodiscard]] Graph& graph() { return graph_; }
  [[nodiscard]] Session& session() { return session_; }
  [[nodiscard]] Parameters& parameters() { return parameters_; }
  [[nodiscard]] const ParameterLayout& places() const { return parameters_.layout(); }

 private:
  /// The last defined comes first.
  static Graph& define(Graph& graph, const std::vector<std::int64_t>& sizes) {
    for (std::size_t p = sizes.size(); p-- > 0;) (void)graph.variable("p" + std::to_string(p), Shape{sizes[p]}, "zeros");
    return graph;
  }
  static std::vector<ParameterGroup> groups(std::span<const std::string> names, std::span<const Shape>) {
    return std::vector<ParameterGroup>(names.size());
  }
  static std::function<bool(const Shape&)> is_small(std::int64_t small) {
    return [small](const Shape& shape) { return shape.elements() < small; };
  }

  Graph graph_;
  Session session_;
  Parameters parameters_;
};

}  // namespace cohort::testing
