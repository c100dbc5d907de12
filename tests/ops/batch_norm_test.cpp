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
