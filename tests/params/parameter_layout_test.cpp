// Where trained variables lie in the flat index space, against a plain computation.
#include "cohort/params/parameter_layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "cohort/graph/graph.hpp"

namespace cohort {
namespace {

using Sizes = std::vector<Shape>;

std::vector<ParameterGroup> all_alike(std::span<const std::string> names, std::span<const Shape>) {
  return std::vector<ParameterGroup>(names.size());
}

/// Variables v0, v1, … in this order of definition, and a statistic, which is not trained.
ParameterLayout layout_of(Graph& graph, const Sizes& shapes, const std::function<bool(const Shape&)>& is_small = {},
                          const ParameterLayout::Grouping& grouping = all_alike) {
  for (std::size_t v = 0; v < shapes.size(); ++v) (void)graph.variable("v" + std::to_string(v), shapes[v], "zeros");
  (void)graph.variable("statistic", Shape{1000}, "zeros", 1.0, false);
  return {graph, grouping, is_small};
}

bool is_small(const Shape& shape) { return shape.elements() < 100; }

TEST(ParameterLayout, OffsetsAreWhatComesBeforeInWholeUnits) {
  // One element, primes, one less and more than a unit, rows that are padded (256, 512 columns) and rows that are not, a kernel.
  const Sizes shapes{{1}, {2}, {97}, {255}, {256}, {257}, {509}, {1, 256}, {3, 256}, {5, 512}, {7, 13}, {31, 257}, {3, 3, 4, 256}, Shape({})};
  Graph graph;
  const ParameterLayout layout = layout_of(graph, shapes);
  ASSERT_EQ(layout.trained().size(), shapes.size());
  std::int64_t offset = 0, elements = 0;
  for (std::size_t p = 0; p < shapes.size(); ++p) {
    const std::size_t v = shapes.size() - 1 - p;                         // the last defined comes first
    const Parameter& parameter = layout.trained()[p];
    const Shape& shape = shapes[v];
    const bool padded = shape.rank() == 2 && shape[0] > 1 && shape[1] % 256 == 0;
    EXPECT_EQ(parameter.name, "v" + std::to_string(v));
    EXPECT_EQ(parameter.shape, shape);
    EXPECT_EQ(parameter.n, shape.elements() + (padded ? 16 * shape[0] : 0)) << parameter.name;
    EXPECT_EQ(parameter.ld * shape.rows(), parameter.n);
    EXPECT_EQ(parameter.offset % 256, 0);
    EXPECT_EQ(parameter.offset, offset) << parameter.name;
    const FlatRange range = layout.range(p, p + 1);
    EXPECT_EQ(range.begin, offset);
    while (offset < parameter.offset + parameter.n) offset += 256;
    EXPECT_EQ(range.end(), offset);
    elements += shape.elements();
  }
  EXPECT_EQ(layout.flat_size(), offset);
  EXPECT_EQ(layout.elements(), elements);
  EXPECT_EQ(layout.first_small(), shapes.size()) << "none is told apart";
}

TEST(ParameterLayout, SmallOnesLieBehindAllOthersInTheSameOrder) {
  Graph graph;
  const ParameterLayout layout = layout_of(graph, {{7}, {300}, {99}, {100}, {11, 13}, {3}}, is_small);
  std::vector<std::string> names;
  for (const Parameter& parameter : layout.trained()) names.push_back(parameter.name);
  EXPECT_EQ(names, (std::vector<std::string>{"v4", "v3", "v1", "v5", "v2", "v0"}));
  EXPECT_EQ(layout.first_small(), 3u);
  EXPECT_EQ(layout.range(3, 6).begin, 256 + 256 + 512);
  EXPECT_EQ(layout.range(3, 6).n, 3 * 256);
}

TEST(ParameterLayout, AllMayBeSmall) {
  Graph graph;
  EXPECT_EQ(layout_of(graph, {{7}, {3}}, is_small).first_small(), 0u);
}

TEST(ParameterLayout, NothingIsLaidOutAsNothing) {
  Graph graph;
  const ParameterLayout layout = layout_of(graph, {});
  EXPECT_TRUE(layout.trained().empty());
  EXPECT_TRUE(layout.frozen().empty());
  EXPECT_EQ(layout.flat_size(), 0);
  EXPECT_EQ(layout.elements(), 0);
  EXPECT_EQ(layout.first_small(), 0u);
  EXPECT_EQ(layout.range(0, 0).n, 0);
}

TEST(ParameterLayout, FrozenVariablesHaveNoPlaceAndGroupsStayWithTheirs) {
  const auto grouping = [](std::span<const std::string> names, std::span<const Shape> shapes) {
    std::vector<ParameterGroup> groups(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      groups[i].frozen = names[i] == "v1" || names[i] == "v3";
      groups[i].learning_rate_factor = static_cast<double>(shapes[i].elements());
    }
    return groups;
  };
  Graph graph;
  const ParameterLayout layout = layout_of(graph, {{300}, {50}, {7}, {500}, {400}}, is_small, grouping);
  ASSERT_EQ(layout.trained().size(), 3u);
  ASSERT_EQ(layout.frozen().size(), 2u);
  EXPECT_EQ(layout.frozen()[0].shape(), Shape{500});
  EXPECT_EQ(layout.frozen()[1].shape(), Shape{50});
  EXPECT_EQ(layout.first_small(), 2u);
  EXPECT_EQ(layout.elements(), 400 + 300 + 7);
  EXPECT_EQ(layout.flat_size(), 512 + 512 + 256);
  for (const Parameter& parameter : layout.trained()) {
    EXPECT_EQ(parameter.group.learning_rate_factor, static_cast<double>(parameter.shape.elements())) << parameter.name;
  }
}

}  // namespace
}  // namespace cohort
