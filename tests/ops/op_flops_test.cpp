// Multiplications and additions as counted by hand: 2 for each pair of an element of one factor and one of the other that meet.
#include <gtest/gtest.h>

#include <array>

#include "cohort/exec/session.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

double flops_of(Graph& graph, const std::vector<Value>& fetches, const FeedShapes& feeds) {
  Session session(graph);
  return session.prepare(fetches, feeds).flops();
}

double flops_of_matmul(const Shape& a, const Shape& b, bool transpose_a, bool transpose_b) {
  Graph g;
  const Value x = g.placeholder("a", DType::float32, a), y = g.placeholder("b", DType::float32, b);
  return flops_of(g, {matmul(x, y, transpose_a, transpose_b)}, {{x, a}, {y, b}});
}

TEST(Flops, OfMatrixProducts) {
  EXPECT_EQ(flops_of_matmul({3, 5}, {5, 2}, false, false), 60);
  EXPECT_EQ(flops_of_matmul({5, 3}, {2, 5}, true, true), 60);
  EXPECT_EQ(flops_of_matmul({2, 3, 4}, {2, 4, 5}, false, false), 240);
  EXPECT_EQ(flops_of_matmul({2, 3, 4}, {5, 4}, false, true), 240);
  EXPECT_EQ(flops_of_matmul({0, 4}, {4, 5}, false, false), 0);
}

TEST(Flops, OfALayerAndItsGradients) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown, 5});
  const Value weight = g.variable("w", {5, 3}, "zeros"), bias = g.variable("b", {3}, "zeros");
  const Value y = g.add("Dense", {x, weight, bias}, {{"activation", std::string("tanh")}});
  const std::vector<Value> all = gradients(mean(y), std::vector{x, weight});
  EXPECT_EQ(flops_of(g, {y}, {{x, Shape{7, 5}}}), 210);
  EXPECT_EQ(flops_of(g, {all[1]}, {{x, Shape{7, 5}}}), 420);
  EXPECT_EQ(flops_of(g, all, {{x, Shape{7, 5}}}), 630);
}

TEST(Flops, OfAttentionAndItsGradient) {
  for (const bool causal : {true, false}) {
    Graph g;
    const Value qkv = g.placeholder("qkv", DType::float32, {2, 3, 12});       // 2 samples, 3 positions, 2 heads of 2 columns
    const Value y = attention(qkv, 2, causal);
    const double product = 2 * 2 * 2 * 2 * (causal ? 6 : 9);                  // 1 + 2 + 3 pairs, or all
    const Value d = gradients(sum(y * y), std::array{qkv})[0];
    EXPECT_EQ(flops_of(g, {y}, {{qkv, Shape{2, 3, 12}}}), 2 * product);
    EXPECT_EQ(flops_of(g, {d}, {{qkv, Shape{2, 3, 12}}}), 6 * product);
  }
}

TEST(Flops, OfARecurrentLayerAndItsGradient) {
  Graph g;
  const Value gates = g.placeholder("gates", DType::float32, {3, 4, 8}), weight = g.placeholder("weight", DType::float32, {2, 8});
  const Value y = g.add("Lstm", {gates, weight})[0];
  const double product = 3 * 3 * 2 * 2 * 8;                                   // 3 samples, 3 positions with a past
  const FeedShapes feeds{{gates, Shape{3, 4, 8}}, {weight, Shape{2, 8}}};
  EXPECT_EQ(flops_of(g, {y}, feeds), product);
  EXPECT_EQ(flops_of(g, gradients(sum(y * y), std::array{gates, weight}), feeds), 3 * product);
}

TEST(Flops, OfConvolutionsAndTheirGradients) {
  struct Case {
    Shape image, filter;
    std::int64_t stride, groups;
    double expected;
  };
  // "valid": 3 x 2 windows of 2 x 2; with stride 2: 2 x 1; two groups: 2 of the 4 channels each.
  for (const Case& c : {Case{{2, 4, 3, 5}, {2, 2, 5, 7}, 1, 1, 2. * 2 * 6 * 7 * 20}, Case{{2, 4, 3, 5}, {2, 2, 5, 7}, 2, 1, 2. * 2 * 2 * 7 * 20},
                        Case{{1, 4, 3, 4}, {2, 2, 2, 6}, 1, 2, 2. * 6 * 6 * 8}}) {
    Graph g;
    const Value x = g.placeholder("x", DType::float32, c.image), filter = g.placeholder("f", DType::float32, c.filter);
    const Value y = g.add("Conv2D", {x, filter}, {{"stride", c.stride}, {"padding", std::string("valid")}, {"groups", c.groups}});
    const std::vector<Value> all = gradients(sum(y * y), std::vector{x, filter});
    const FeedShapes feeds{{x, c.image}, {filter, c.filter}};
    EXPECT_EQ(flops_of(g, {y}, feeds), c.expected);
    EXPECT_EQ(flops_of(g, {all[0]}, feeds), 2 * c.expected);
    EXPECT_EQ(flops_of(g, {all[1]}, feeds), 2 * c.expected);
    EXPECT_EQ(flops_of(g, all, feeds), 3 * c.expected);
  }
}

}  // namespace
}  // namespace cohort
