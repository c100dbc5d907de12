#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/graph/graph.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/params/shard.hpp"

namespace cohort {

/// One trained variable and its place in the flat index space.
struct Parameter {
  std::string name;
  Value variable;
  Shape shape;
  std::int64_t ld = 0;                 ///< of its rows; padding between them is zero for ever
  std::int64_t offset = 0;             ///< of its first element; a multiple of ParameterLayout::kUnit
  std::int64_t n = 0;                  ///< elements of the flat space, padding included
  ParameterGroup group;
};

/// The places of the trained variables in one flat index space, which values, slots and gradients share. The last defined comes
/// first: the order in which a backward pass finishes them. What aligns them and pads the rows of matrices is zero for ever. Small
/// ones, if told apart, lie behind all others.
class ParameterLayout {
 public:
  /// Elements of the flat space that are never cut: by the alignment of parameters, by blocks of the exchange, by sums.
  static constexpr std::int64_t kUnit = kBlockUnit;

  /// The group of each trainable variable, by name and shape.
  using Grouping = std::function<std::vector<ParameterGroup>(std::span<const std::string> names, std::span<const Shape> shapes)>;

  /// Of the variables that the graph has by now.
  ParameterLayout(const Graph& graph, const Grouping& grouping, const std::function<bool(const Shape&)>& is_small = {});

  [[nodiscard]] std::span<const Parameter> trained() const noexcept { return trained_; }
  [[nodiscard]] std::size_t first_small() const noexcept { return first_small_; }       ///< of `trained()`; its size if none
  [[nodiscard]] std::int64_t flat_size() const noexcept { return flat_size_; }
  [[nodiscard]] std::int64_t elements() const noexcept { return elements_; }           ///< without padding
  /// What `[first, last)` of `trained()` take of the flat space, with all that lies between them and the next one.
  [[nodiscard]] FlatRange range(std::size_t first, std::size_t last) const;
  /// Trainable variables whose group is frozen, in the order in which they would lie. They have no place.
  [[nodiscard]] std::span<const Value> frozen() const noexcept { return frozen_; }

 private:
  std::vector<Parameter> trained_;
  std::vector<Value> frozen_;
  std::int64_t flat_size_ = 0, elements_ = 0;
  std::size_t first_small_ = 0;
};

}  // namespace cohort
