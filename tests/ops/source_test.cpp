// Placeholder, Variable and Constant: nodes that have memory and no kernel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cohort/graph/functions.hpp"
#include "ops/run_op.hpp"

namespace cohort::test {
namespace {

TEST(Sources, AConstantKeepsTypeAndValues) {
  Graph graph;
  const Value c = graph.constant(ints({2, 2}, {1, -2, 3, 4}));
  EXPECT_EQ(c.signature().text(), "int32[2, 2]");
  Session session(graph);
  EXPECT_EQ(to_doubles(session.run(c)), (std::vector<double>{1, -2, 3, 4}));
}

TEST(Sources, APlaceholderIsWhatItIsFed) {
  Graph graph;
  const Value x = graph.placeholder("x", DType::float32, {Shape::kUnknown});
  Session session(graph);
  EXPECT_EQ(to_doubles(session.run(x, {{x, floats({3}, {1, 2, 3})}})), (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(to_doubles(session.run(x, {{x, floats({1}, {7})}})), (std::vector<double>{7}));
  EXPECT_THAT(error_of([&] { session.run(x); }), testing::HasSubstr("'x'"));
  EXPECT_THAT(error_of([&] { session.run(x, {{x, ints({1}, {7})}}); }), testing::HasSubstr("'x'"));
}

TEST(Sources, AFedValueCanBeBound) {
  Graph graph;
  const Value x = graph.placeholder("x", DType::float32, {3}), y = reshape(x, {3, 1});
  const Tensor storage = Tensor::zeros({3}), view = Tensor::zeros({3, 1});
  Session session(graph);
  session.bind(x, storage);
  session.bind(y, view);
  for (const float first : {1.f, 5.f}) {
    session.run(std::vector<Value>{x, y}, {{x, floats({3}, {first, 2, 3})}});
    EXPECT_EQ(to_doubles(storage), (std::vector<double>{first, 2, 3}));
    EXPECT_EQ(to_doubles(view), (std::vector<double>{first, 2, 3}));
  }
}

TEST(Sources, AVariableStartsFromItsNameAndSeed) {
  const auto start = [](std::uint64_t seed, std::string_view init, double scale) {
    Graph graph;
    const Value w = graph.variable("w", {400, 50}, init, scale);
    Session session(graph, {.seed = seed});
    return to_doubles(session.run(w));
  };
  const auto deviation = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double x : values) sum += x * x;
    return std::sqrt(sum / static_cast<double>(values.size()));
  };
  EXPECT_EQ(start(1, "normal", 0.5), start(1, "normal", 0.5));
  EXPECT_NE(start(1, "normal", 0.5), start(2, "normal", 0.5));
  EXPECT_THAT(start(1, "ones", 1), testing::Each(1.0));
  EXPECT_THAT(start(1, "constant", 0.25), testing::Each(0.25));
  EXPECT_NEAR(deviation(start(1, "normal", 0.5)), 0.5, 0.02);
  EXPECT_NEAR(deviation(start(1, "uniform", 0.3)), 0.3 / std::sqrt(3.0), 0.01);
  EXPECT_NEAR(deviation(start(1, "he_normal", 1)), std::sqrt(2.0 / 400), 0.003);             // He et al. 2015, eq. 10
  EXPECT_NEAR(deviation(start(1, "glorot_uniform", 1)), std::sqrt(2.0 / 450), 0.003);        // Glorot & Bengio 2010, eq. 16
}

}  // namespace
}  // namespace cohort::test
