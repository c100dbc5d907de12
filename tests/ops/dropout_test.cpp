#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/run_node.hpp"

namespace cohort {
namespace {

using test::run_node;
using ::testing::HasSubstr;

std::vector<float> mask(const Shape& shape, double rate, const test::RunNode& how = {}) {
  const std::vector<float> ones(static_cast<std::size_t>(shape.elements()), 1.f);
  test::RunNode named = how;
  if (named.name.empty()) named.name = "dropout";
  return run_node("Dropout", {Tensor::of<float>(shape, ones)}, {{"rate", rate}}, named)[0].to_vector<float>();
}

TEST(Dropout, KeepsTheRightShareAndScalesIt) {
  for (const double rate : {0.0, 0.1, 0.5, 0.9}) {
    const auto y = mask({1000, 101}, rate, {.options = {.seed = 3}});
    double kept = 0;
    for (const float v : y) {
      if (v == 0) continue;
      ++kept;
      EXPECT_FLOAT_EQ(v, static_cast<float>(1 / (1 - rate)));
    }
    const double n = static_cast<double>(y.size());
    EXPECT_NEAR(kept / n, 1 - rate, 4.5 * std::sqrt(rate * (1 - rate) / n) + 1e-9) << "rate " << rate;
  }
}

TEST(Dropout, IsTheGeneratorsFunctionOfSeedNodeStepAndGlobalElement) {
  const std::int64_t rows = 5, columns = 67;
  const RunOptions options{.seed = 11, .step = 7, .row_offset = 3, .row_stride = 4};
  const auto y = mask({rows, columns}, 0.3, {.options = options, .name = "layer/drop"});
  const std::uint64_t stream = stream_of("layer/drop");
  const auto key = philox(11, stream, 7);
  const std::uint64_t seed = (std::uint64_t{key[0]} << 32) | key[1];
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const auto k = static_cast<std::uint64_t>((3 + i * 4) * columns + j);
      const bool keep = static_cast<double>(philox(seed, stream, k / 4)[k % 4]) * 0x1p-32 >= 0.3;
      EXPECT_EQ(y[static_cast<std::size_t>(i * columns + j)] != 0, keep) << i << ", " << j;
    }
  }
}

TEST(Dropout, DependsOnSeedStepAndNodeOnly) {
  const Shape shape{33, 29};
  const auto first = mask(shape, 0.5);
  EXPECT_EQ(mask(shape, 0.5), first);
  for (const int threads : {2, 3}) EXPECT_EQ(mask({330, 290}, 0.5, {.threads = threads}), mask({330, 290}, 0.5));
  EXPECT_NE(mask(shape, 0.5, {.options = {.seed = 1}}), first);
  EXPECT_NE(mask(shape, 0.5, {.options = {.step = 1}}), first);
  EXPECT_NE(mask(shape, 0.5, {.name = "other"}), first);
}

TEST(Dropout, RanksThatShareABatchDrawTheRowsOfTheWholeBatch) {
  const std::int64_t columns = 7;
  const auto whole = mask({10, columns}, 0.5, {.options = {.row_offset = 40}});
  for (const std::int64_t ranks : {2, 5}) {
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      const auto part = mask({10 / ranks, columns}, 0.5, {.options = {.row_offset = 40 + rank, .row_stride = ranks}});
      for (std::size_t k = 0; k < part.size(); ++k) {
        const auto row = static_cast<std::int64_t>(k) / columns, column = static_cast<std::int64_t>(k) % columns;
        EXPECT_EQ(part[k], whole[static_cast<std::size_t>((row * ranks + rank) * columns + column)]);
      }
    }
  }
}

TEST(Dropout, GradientUsesTheForwardMask) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {4, 9});
  const Value y = g.add("Dropout", {x}, {{"rate", 0.5}}, "drop");
  const Value dy = g.add("Dropout", {x}, {{"rate", 0.5}, {"stream", "drop"}}, "something_else");
  Session session(g);
  const std::vector<Value> both{y, dy};
  const auto results = session.run(both, {{x, test::random_tensor({4, 9}, 1)}}, {.seed = 5, .step = 2});
  EXPECT_EQ(results[0].to_vector<float>(), results[1].to_vector<float>());
}

TEST(Dropout, RefusesRatesOutsideZeroToOne) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {2});
  for (const double rate : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THAT(test::error_of([&] {
                  g.add("Dropout", {x}, {{"rate", rate}});
                }),
                HasSubstr("it must be at least 0 and below 1"))
        << rate;
  }
}

TEST(Dropout, NaNStaysNaN) {
  const Tensor x = Tensor::of<float>({64}, std::vector<float>(64, std::numeric_limits<float>::quiet_NaN()));
  for (const float v : run_node("Dropout", {x}, {{"rate", 0.5}})[0].to_vector<float>()) EXPECT_TRUE(std::isnan(v));
}

}  // namespace
}  // namespace cohort
