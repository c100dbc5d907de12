#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "ops/run_node.hpp"

namespace cohort {
namespace {

using test::difference;
using test::random_tensor;
using test::run_node;
using ::testing::HasSubstr;

struct Normalised {
  std::vector<double> y, mean, variance;
};

/// The formulas of the paper in double precision; `variance` is the unbiased one.
Normalised normalise(const std::vector<double>& x, const Tensor& scale, const Tensor& offset, double epsilon) {
  const auto c = static_cast<std::size_t>(scale.elements());
  const std::size_t m = x.size() / c;
  Normalised r{std::vector<double>(x.size()), std::vector<double>(c), std::vector<double>(c)};
  for (std::size_t i = 0; i < x.size(); ++i) r.mean[i % c] += x[i] / static_cast<double>(m);
  for (std::size_t i = 0; i < x.size(); ++i) r.variance[i % c] += (x[i] - r.mean[i % c]) * (x[i] - r.mean[i % c]);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t k = i % c;
    r.y[i] = static_cast<double>(scale.data<float>()[k]) * (x[i] - r.mean[k]) /
                 std::sqrt(r.variance[k] / static_cast<double>(m) + epsilon) +
             static_cast<double>(offset.data<float>()[k]);
  }
  for (double& v : r.variance) v = m > 1 ? v / static_cast<double>(m - 1) : 0;
  return r;
}

std::vector<double> doubles(const Tensor& x) {
  const auto v = x.to_vector<float>();
  return {v.begin(), v.end()};
}

TEST(BatchNorm, TrainingEqualsTheDefinitionWithTheSameBitsOnAnyThreads) {
  for (const Shape& shape : {Shape{1000, 3}, Shape{2, 5, 7, 16}, Shape{1, 4}, Shape{3, 1}}) {
    SCOPED_TRACE(shape.text());
    const Tensor x = random_tensor(shape, 1), scale = random_tensor({shape[-1]}, 2), offset = random_tensor({shape[-1]}, 3);
    const auto expected = normalise(doubles(x), scale, offset, 1e-3);
    const auto y = run_node("BatchNormTraining", {x, scale, offset}, {{"epsilon", 1e-3}});
    EXPECT_LT(difference(y[0], expected.y), 5e-6);
    EXPECT_LT(difference(y[1], expected.mean), 1e-6);
    EXPECT_LT(difference(y[2], expected.variance), 1e-6);
    for (const int threads : {2, 3}) {
      const auto more = run_node("BatchNormTraining", {x, scale, offset}, {{"epsilon", 1e-3}}, {.threads = threads});
      for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(more[i].to_vector<float>(), y[i].to_vector<float>());
    }
  }
}

TEST(BatchNorm, ALargeMeanDoesNotSwallowTheVariance) {
  Tensor x = random_tensor({4096, 2}, 1);
  for (std::int64_t i = 0; i < x.elements(); ++i) x.data<float>()[i] += 1000.f;
  const Tensor one = Tensor::of<float>({2}, {1, 1}), zero = Tensor::zeros({2});
  const auto expected = normalise(doubles(x), one, zero, 1e-5);
  const auto y = run_node("BatchNormTraining", {x, one, zero}, {{"epsilon", 1e-5}});
  EXPECT_LT(difference(y[2], expected.variance), 1e-4);
}

/// Rows × 3 channels, each around a mean of its own near `mean`.
Tensor around(double mean, std::int64_t rows) {
  Tensor x = random_tensor({rows, 3}, 1);
  for (std::int64_t i = 0; i < x.elements(); ++i) x.data<float>()[i] += static_cast<float>(mean * (1 + 0.3 * static_cast<double>(i % 3)));
  return x;
}

Tensor transposed(const Tensor& x) {
  Tensor y = Tensor::zeros({x.shape()[1], x.shape()[0]});
  for (std::int64_t i = 0; i < x.elements(); ++i) y.data<float>()[i % 3 * x.shape()[0] + i / 3] = x.data<float>()[i];
  return y;
}

class LargeMeans : public ::testing::TestWithParam<double> {};
INSTANTIATE_TEST_SUITE_P(From, LargeMeans, ::testing::Values(0.0, 1e2, -1e3, 1e4), [](const auto& one) {
  return "mean_" + std::to_string(one.index);
});

TEST_P(LargeMeans, CostInferenceNoAccuracy) {
  const Tensor x = around(GetParam(), 500), scale = random_tensor({3}, 2), offset = random_tensor({3}, 3), added = random_tensor({500, 3}, 4);
  Tensor mean = around(GetParam(), 1), variance = Tensor::of<float>({3}, {0.3f, 0.01f, 2.f});
  std::vector<double> plain, rectified;
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    const auto of = [&](const Tensor& t, std::int64_t at) { return static_cast<double>(t.data<float>()[at]); };
    plain.push_back(of(scale, i % 3) * (of(x, i) - of(mean, i % 3)) / std::sqrt(of(variance, i % 3) + 1e-5) + of(offset, i % 3));
    rectified.push_back(std::max(plain.back() + of(added, i), 0.0));
  }
  mean = Tensor::of<float>({3}, mean.to_vector<float>());
  EXPECT_LT(difference(run_node("BatchNormInference", {x, scale, offset, mean, variance}, {{"epsilon", 1e-5}})[0], plain), 3e-7);
  EXPECT_LT(difference(run_node("BatchNormInference", {x, scale, offset, mean, variance, added}, {{"epsilon", 1e-5}, {"relu", true}})[0], rectified), 3e-7);
}

TEST_P(LargeMeans, CostNormsOverTheirOwnStatisticsNoAccuracy) {
  const Tensor x = around(GetParam(), 3000), scale = random_tensor({3}, 2), offset = random_tensor({3}, 3);
  const auto want = normalise(doubles(x), scale, offset, 1e-5);
  const auto y = run_node("BatchNormTraining", {x, scale, offset}, {{"epsilon", 1e-5}});
  EXPECT_LT(difference(y[0], want.y), 2e-6);
  EXPECT_LT(difference(y[1], want.mean), 1e-7);
  EXPECT_LT(difference(y[2], want.variance), 1e-6);
  // Each channel a group of its own, and each row a channel: the same numbers.
  const Tensor image = Tensor::of<float>({1, 3000, 3}, x.to_vector<float>());
  EXPECT_LT(difference(run_node("GroupNorm", {image, scale, offset}, {{"epsilon", 1e-5}, {"groups", std::int64_t{3}}})[0], want.y), 5e-6);
  const Tensor one = Tensor::of<float>({3}, {1, 1, 1}), ones = Tensor::of<float>({3000}, std::vector<float>(3000, 1.f));
  const auto rows = run_node("LayerNorm", {transposed(x), ones, Tensor::zeros({3000})}, {{"epsilon", 1e-5}});
  std::vector<double> by_row(9000);
  const auto bare = normalise(doubles(x), one, Tensor::zeros({3}), 1e-5);
  for (std::size_t i = 0; i < by_row.size(); ++i) by_row[i % 3 * 3000 + i / 3] = bare.y[i];
  EXPECT_LT(difference(rows[0], by_row), 2e-6);
}

TEST(BatchNorm, NoChannelsAreNothingToDo) {
  const Tensor x = Tensor::zeros({2, 0}), none = Tensor::zeros({0});
  EXPECT_EQ(run_node("BatchNormInference", {x, none, none, none, none}, {{"epsilon", 1e-5}})[0].shape(), Shape({2, 0}));
  EXPECT_EQ(run_node("BatchNormTraining", {x, none, none}, {{"epsilon", 1e-5}})[1].shape(), Shape{0});
}

TEST(BatchNorm, GradientsWithUsedStatisticsEqualFiniteDifferences) {
  // The loss Σ y·a + mean·b + variance·c in double precision, by central differences.
  const Shape shape{6, 2};
  const Tensor x = random_tensor(shape, 1), scale = random_tensor({2}, 2), offset = random_tensor({2}, 3);
  const Tensor a = random_tensor(shape, 4), b = random_tensor({2}, 5), c = random_tensor({2}, 6);
  const double epsilon = 1e-2, h = 1e-5;
  const auto dot = [](const std::vector<double>& u, const Tensor& v) {
    double sum = 0;
    for (std::size_t i = 0; i < u.size(); ++i) sum += u[i] * static_cast<double>(v.data<float>()[i]);
    return sum;
  };
  const auto loss = [&](const std::vector<double>& at) {
    const auto r = normalise(at, scale, offset, epsilon);
    return dot(r.y, a) + dot(r.mean, b) + dot(r.variance, c);
  };
  std::vector<double> expected;
  for (std::size_t i = 0; i < 12; ++i) {
    auto up = doubles(x), down = doubles(x);
    up[i] += h;
    down[i] -= h;
    expected.push_back((loss(up) - loss(down)) / (2 * h));
  }
  const auto y = run_node("BatchNormTraining", {x, scale, offset}, {{"epsilon", epsilon}});
  EXPECT_LT(
      difference(run_node("BatchNormTrainingGrad", {a, x, scale, y[1], y[2], b, c},
                          {{"epsilon", epsilon}, {"statistics", true}})[0],
                 expected),
      1e-5);
}

TEST(BatchNorm, RefusesWrongShapes) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown, 3}), three = g.placeholder("s", DType::float32, {3});
  const Value two = g.placeholder("t", DType::float32, {2});
  EXPECT_THAT(test::error_of([&] {
                g.add("BatchNormTraining", {x, three, two}, {{"epsilon", 1e-5}});
              }),
              HasSubstr("one element per channel"));
  EXPECT_THAT(test::error_of([&] {
                g.add("BatchNormTraining", {x, three, three}, {{"epsilon", 0.0}});
              }),
              HasSubstr("epsilon is"));
}

}  // namespace
}  // namespace cohort
