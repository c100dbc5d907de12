#include "cohort/params/parameter_layout.hpp"

#include <algorithm>

namespace cohort {

ParameterLayout::ParameterLayout(const Graph& graph, const Grouping& grouping, const std::function<bool(const Shape&)>& is_small) {
  std::vector<Value> trainable = graph.variables(true);
  std::reverse(trainable.begin(), trainable.end());
  const auto large = [&](const Value& variable) { return !is_small || !is_small(variable.shape()); };
  std::ranges::stable_partition(trainable, large);
  std::vector<std::string> names;
  std::vector<Shape> shapes;
  for (const Value& variable : trainable) {
    names.push_back(graph.node(variable.node).name);
    shapes.push_back(variable.shape());
  }
  const std::vector<ParameterGroup> groups = grouping(names, shapes);
  for (std::size_t v = 0; v < trainable.size(); ++v) {
    if (groups[v].frozen) {
      frozen_.push_back(trainable[v]);
      continue;
    }
    // Only matrices are padded: they are multiplied; whoever else reads a variable wants it dense.
    const std::int64_t ld = shapes[v].rank() == 2 ? padded_ld(shapes[v]) : shapes[v].columns(), n = shapes[v].rows() * ld;
    trained_.push_back({names[v], trainable[v], shapes[v], ld, flat_size_, n, groups[v]});
    elements_ += shapes[v].elements();
    flat_size_ += (n + kUnit - 1) / kUnit * kUnit;
    if (large(trainable[v])) first_small_ = trained_.size();
  }
}

FlatRange ParameterLayout::range(std::size_t first, std::size_t last) const {
  const auto begin_of = [this](std::size_t p) { return p < trained_.size() ? trained_[p].offset : flat_size_; };
  return {begin_of(first), begin_of(last) - begin_of(first)};
}

}  // namespace cohort
