#include "exec/plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "cohort/base/random.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "exec/memory_plan.hpp"
#include "exec/passes.hpp"
#include "support/count_allocations.hpp"

namespace cohort {
namespace {

std::vector<std::string> ops_of(const Plan& plan) {
  std::vector<std::string> ops;
  for (const PlanNode& node : plan.nodes) ops.push_back(node.op);
  return ops;
}

TEST(Passes, FoldConstantsMergeEqualNodesAndPruneTheRest) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {3});
  const Value two = g.constant(1.f) + g.constant(1.f);
  const Value a = x * two, b = x * (g.constant(1.f) + g.constant(1.f));
  const Value unused = exp(x);
  const std::array fetches{a + b};
  Plan plan = make_plan(g, fetches, {{x, Shape{3}}});
  EXPECT_FALSE(unused.node < 0);
  run_passes(plan);
  EXPECT_THAT(ops_of(plan), ::testing::ElementsAre("Placeholder", "Constant", "Mul", "Add"));
  EXPECT_EQ(*plan.nodes[1].attrs.get<Tensor>("value").data<float>(), 2.f);
}

TEST(Passes, RandomNodesAreNeitherMergedNorFolded) {
  Graph g;
  const Value ones = g.constant(Tensor::of<float>({4}, {1, 1, 1, 1}));
  const std::array fetches{dropout(ones, 0.5f), dropout(ones, 0.5f)};
  Plan plan = make_plan(g, fetches, {});
  run_passes(plan);
  EXPECT_THAT(ops_of(plan), ::testing::ElementsAre("Constant", "Dropout", "Dropout"));
}

TEST(Passes, ABrokenPlanIsNoticed) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {3});
  const std::array fetches{Value(exp(x))};
  Plan plan = make_plan(g, fetches, {{x, Shape{3}}});
  plan.nodes[1].outputs[0].shape = {4};
  EXPECT_THROW(verify(plan, "test"), Error);
}

TEST(MemoryPlan, AChainLivesInTwoBuffers) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {1000});
  Value y = x;
  for (int i = 0; i < 10; ++i) y = softmax(y);
  Session session(g);
  Step& step = session.prepare(std::span(&y, 1), {{x, Shape{1000}}});
  EXPECT_LE(step.arena_bytes(), 2u * 4032u);
}

TEST(MemoryPlan, TheLeastIsWhatLivesAtTheBusiestMoment) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {1000});
  const Value a = softmax(x), b = softmax(a), c = softmax(b);    // a waits for the last line; c takes b's place, d a's
  const Value d = sum(c) * a;
  Session session(g);
  Step& step = session.prepare(std::span(&d, 1), {{x, Shape{1000}}});
  EXPECT_GE(step.least_arena_bytes(), 2u * 4000u);
  EXPECT_LE(step.least_arena_bytes(), 2u * 4000u + 8u);
  EXPECT_GE(step.arena_bytes(), step.least_arena_bytes());
}

TEST(MemoryPlan, TheStepsOfASessionShareOneArena) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown});
  const Value y = softmax(softmax(x));
  Session session(g);
  const auto run = [&](std::int64_t n) {
    const std::vector<float> ones(static_cast<std::size_t>(n), 1.f);
    const float first = session.run(y, {{x, Tensor::of<float>({n}, ones)}}).to_vector<float>().front();
    EXPECT_NEAR(first, 1.f / static_cast<float>(n), 1e-6f);
    return session.device().memory().now.load();
  };
  const std::int64_t large = run(100'000);
  EXPECT_GE(large, 400'000);
  EXPECT_EQ(run(1000), large);
  EXPECT_EQ(run(99'999), large);
  EXPECT_GT(run(200'000), large);
}

TEST(Session, ARunAllocatesNothing) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {8, 6});
  const Value y = softmax(relu(x * x + x));
  Session session(g);
  Step& step = session.prepare(std::span(&y, 1), {{x, Shape{8, 6}}});
  const std::array feeds{Tensor::zeros({8, 6})};
  step.run(feeds);
  const std::size_t before = testing::allocations();
  for (int i = 0; i < 100; ++i) step.run(feeds);
  EXPECT_EQ(testing::allocations() - before, 0u);
}

/// Values of a random graph, fetched all at once (so nothing is reused) and one by one (so everything else is). 256 columns are
/// padded where products and elementwise ops are among themselves.
TEST(MemoryPlan, ReusedMemoryNeverChangesAResult) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Graph g;
    std::uint64_t draws = 0;
    const auto draw = [&](std::uint64_t bound) { return random_below(bound, seed, 0, draws++); };
    const std::int64_t columns = seed % 2 == 0 ? 256 : 6;
    const Value x = g.placeholder("x", DType::float32, {4, columns});
    std::vector<Value> values = {x};
    for (int i = 0; i < 25; ++i) {
      const Value a = values[draw(values.size())], b = values[draw(values.size())];
      switch (draw(9)) {
        case 0: values.push_back(a.shape() == b.shape() ? a + b : relu(a)); break;
        case 1: values.push_back(a.shape() == b.shape() ? a * b : tanh(a)); break;
        case 2: values.push_back(relu(a)); break;
        case 3: values.push_back(reshape(a, {a.shape()[1], a.shape()[0]})); break;
        case 4: values.push_back(transpose(a, {1, 0})); break;
        case 5: values.push_back(softmax(a)); break;
        case 6:
        case 7: values.push_back(tanh(a.shape() == b.shape() ? matmul(matmul(a, b, false, true), a) : a)); break;
        default: values.push_back(concat({split(a, 2, 1)[1], split(a, 2, 1)[0]}, 1)); break;
      }
    }
    std::vector<float> feed(static_cast<std::size_t>(4 * columns));
    for (std::size_t i = 0; i < feed.size(); ++i) feed[i] = random_uniform(seed, 1, i) - 0.5f;
    const Feeds feeds = {{x, Tensor::of({4, columns}, feed)}};
    Session session(g);
    const std::vector<Tensor> all = session.run(values, feeds);
    for (std::size_t v = 0; v < values.size(); ++v) {
      // A product's sums may run in another order where its rows are padded.
      const auto one = session.run(values[v], feeds).to_vector<float>(), expected = all[v].to_vector<float>();
      if (columns == 6) { ASSERT_EQ(one, expected) << "seed " << seed << ", value " << v; }
      for (std::size_t i = 0; i < one.size(); ++i) {
        ASSERT_NEAR(one[i], expected[i], 1e-4 * std::max(1.f, std::fabs(expected[i]))) << "seed " << seed << ", value " << v << "[" << i << "]";
      }
    }
  }
}

/// A gradient that is written to padded memory of somebody else's, and padded activations on the way, against dense ones.
TEST(LeadingDimensions, PaddedRowsHoldTheSameValues) {
  for (const std::int64_t columns : {255, 256, 512}) {
    Graph g;
    const Value x = g.placeholder("x", DType::float32, {5, 7});
    const Value w = g.variable("w", {7, columns}, "glorot_uniform");
    const Value h = relu(matmul(x, w));
    const Value y = sum(square(matmul(h, w, false, true)));
    const Value d = gradients(y, std::array{w})[0];
    std::vector<float> feed(35);
    for (std::size_t i = 0; i < feed.size(); ++i) feed[i] = random_uniform(3, 1, i) - 0.5f;
    const Feeds feeds = {{x, Tensor::of({5, 7}, feed)}};
    Session plain(g);
    const auto expected = plain.run(d, feeds).to_vector<float>();
    Session session(g);
    Tensor weight(host(), DType::float32, {7, columns}, columns + 16), gradient(host(), DType::float32, {7, columns}, columns + 16);
    weight.copy_from(session.variable(w));
    std::fill_n(gradient.data<float>(), 6 * (columns + 16) + columns, 0.f);
    session.bind(w, weight);
    session.bind(d, gradient);
    const auto padded = session.run(d, feeds).to_vector<float>();
    for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(padded[i], expected[i], 1e-5 + 1e-5 * std::fabs(expected[i]));
    for (std::int64_t row = 0; row < 6; ++row) {
      for (std::int64_t i = columns; i < columns + 16; ++i) ASSERT_EQ(gradient.data<float>()[row * (columns + 16) + i], 0.f);
    }
  }
}

}  // namespace
}  // namespace cohort
