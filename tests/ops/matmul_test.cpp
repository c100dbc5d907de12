#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/onednn.hpp"
#include "ops/run_node.hpp"

namespace cohort {
namespace {

using test::difference;
using test::padded;
using test::random_tensor;
using test::run_node;
using ::testing::HasSubstr;

Attrs transposes(bool a, bool b) { return {{"transpose_a", a}, {"transpose_b", b}}; }

/// One matrix product by the definition.
std::vector<double> product(const Tensor& a, const Tensor& b, bool ta, bool tb) {
  const auto x = a.to_vector<float>(), y = b.to_vector<float>();
  const std::int64_t rows_a = a.shape()[0], columns_a = a.shape()[1], columns_b = b.shape()[1];
  const std::int64_t m = ta ? columns_a : rows_a, k = ta ? rows_a : columns_a, n = tb ? b.shape()[0] : columns_b;
  std::vector<double> result;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        sum += static_cast<double>(x[static_cast<std::size_t>(ta ? l * columns_a + i : i * columns_a + l)]) *
               static_cast<double>(y[static_cast<std::size_t>(tb ? j * columns_b + l : l * columns_b + j)]);
      }
      result.push_back(sum);
    }
  }
  return result;
}

TEST(MatMul, AllTransposesAndSizesPaddedOrNot) {
  for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{1, 1, 1},
                                {3, 5, 7},
                                {17, 1, 33},
                                {1, 64, 19},
                                {37, 41, 128},
                                {150, 70, 210},
                                {35, 200, 400},
                                {4, 3, 0},
                                {0, 3, 2}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        for (const int threads : {1, 3}) {
          SCOPED_TRACE(::testing::Message()
                       << m << "x" << n << "x" << k << (ta ? " aT" : "") << (tb ? " bT" : "") << " threads " << threads);
          const Tensor a = random_tensor(ta ? Shape{k, m} : Shape{m, k}, 1),
                       b = random_tensor(tb ? Shape{n, k} : Shape{k, n}, 2);
          const auto expected = product(a, b, ta, tb);
          EXPECT_LT(difference(run_node("MatMul", {a, b}, transposes(ta, tb), {.threads = threads})[0], expected), 1e-6);
          const Tensor out = padded(random_tensor({m, n}, 3), 3);
          (void)run_node("MatMul", {padded(a, 16), padded(b, 5)}, transposes(ta, tb), {.threads = threads, .out = {out}});
          EXPECT_LT(difference(out, expected), 1e-6);
          EXPECT_TRUE(test::padding_untouched(out));
        }
      }
    }
  }
}

TEST(MatMul, BatchesBroadcast) {
  // Every output matrix must come from the right pair of input matrices, whichever path computes it.
  const Shape batches[][3] = {{{3}, {3}, {3}},          {{3}, {}, {3}},        {{}, {3}, {3}}, {{2, 1}, {1, 3}, {2, 3}},
                              {{2, 3}, {1, 1}, {2, 3}}, {{1}, {2, 2}, {2, 2}}, {{0}, {1}, {0}}};
  for (const auto& [batch_a, batch_b, batch] : batches) {
    for (const bool ta : {false, true}) {
      for (const int threads : {1, 2}) {
        SCOPED_TRACE(batch_a.text() + " " + batch_b.text() + (ta ? " aT" : "") + " threads " + std::to_string(threads));
        const auto with = [](Shape shape, std::int64_t rows, std::int64_t columns) {
          shape.append(rows);
          shape.append(columns);
          return shape;
        };
        const Tensor a = random_tensor(ta ? with(batch_a, 4, 3) : with(batch_a, 3, 4), 5),
                     b = random_tensor(with(batch_b, 4, 2), 6);
        std::vector<double> expected;
        const auto part = [&](const Tensor& x, const Shape& own, std::int64_t at) {   // the matrix of output matrix `at`
          std::int64_t index = 0, stride = 1;
          for (std::int64_t d = 1; d <= static_cast<std::int64_t>(batch.rank()); ++d) {
            const std::int64_t size = d <= static_cast<std::int64_t>(own.rank()) ? own[-d] : 1;
            index += (size == 1 ? 0 : at % batch[-d]) * stride;
            at /= batch[-d];
            stride *= size;
          }
          const Shape matrix{x.shape()[-2], x.shape()[-1]};
          return Tensor(host(), DType::float32, matrix, x.data<float>() + index * matrix.elements());
        };
        for (std::int64_t i = 0; i < batch.elements(); ++i) {
          const auto one = product(part(a, batch_a, i), part(b, batch_b, i), ta, false);
          expected.insert(expected.end(), one.begin(), one.end());
        }
        const Tensor y = run_node("MatMul", {a, b}, transposes(ta, false), {.threads = threads})[0];
        EXPECT_EQ(y.shape(), with(batch, 3, 2));
        EXPECT_LT(difference(y, expected), 1e-6);
        if (batch.elements() == 0) continue;
        EXPECT_LT(
            difference(run_node("MatMul", {padded(a, 2), padded(b, 3)}, transposes(ta, false), {.threads = threads})[0],
                       expected),
            1e-6);
      }
    }
  }
}

TEST(MatMul, RefusesShapesThatDoNotFit) {
  Graph g;
  const Value a = g.placeholder("a", DType::float32, {Shape::kUnknown, 3}), b = g.placeholder("b", DType::float32, {4, 5});
  EXPECT_THAT(
      test::error_of([&] {
        g.add("MatMul", {a, b}, {}, "product");
      }),
      ::testing::AllOf(HasSubstr("MatMul 'product'"), HasSubstr("3 and 4"), HasSubstr("float32[?, 3], float32[4, 5]")));
  const Value batch_2 = g.placeholder("c", DType::float32, {2, 3, 4}),
              batch_3 = g.placeholder("d", DType::float32, {3, 4, 5});
  EXPECT_THAT(test::error_of([&] { g.add("MatMul", {batch_2, batch_3}); }), HasSubstr("do not broadcast"));
  EXPECT_EQ(Value(g.add("MatMul", {a, g.placeholder("e", DType::float32, {3, 7})})).shape(), (Shape{Shape::kUnknown, 7}));
}

TEST(Dense, IsProductBiasAndActivationPaddedOrNot) {
  const std::pair<const char*, double (*)(double)> activations[] = {
      {"none", [](double z) { return z; }},
      {"relu", [](double z) { return z > 0 ? z : 0; }},
      {"tanh", [](double z) { return std::tanh(z); }},
      {"sigmoid", [](double z) { return 1 / (1 + std::exp(-z)); }}};
  const Tensor x = random_tensor({13, 40}, 1), weight = random_tensor({40, 21}, 2), bias = random_tensor({21}, 3);
  for (const auto& [name, f] : activations) {
    SCOPED_TRACE(name);
    std::vector<double> expected = product(x, weight, false, false);
    for (std::size_t i = 0; i < expected.size(); ++i)
      expected[i] = f(expected[i] + static_cast<double>(bias.data<float>()[i % 21]));
    for (const int threads : {1, 2}) {
      EXPECT_LT(difference(run_node("Dense", {x, weight, bias}, {{"activation", name}}, {.threads = threads})[0], expected),
                2e-6);
      const Tensor out = padded(random_tensor({13, 21}, 4), 11);
      (void)run_node("Dense", {padded(x, 8), padded(weight, 16), bias}, {{"activation", name}},
                     {.threads = threads, .out = {out}});
      EXPECT_LT(difference(out, expected), 2e-6);
      EXPECT_TRUE(test::padding_untouched(out));
    }
  }
}

TEST(Dense, KeepsNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor y =
      run_node("Dense", {Tensor::of<float>({1, 1}, {nan}), Tensor::of<float>({1, 1}, {1}), Tensor::of<float>({1}, {0})},
               {{"activation", "relu"}})[0];
  EXPECT_TRUE(std::isnan(y.data<float>()[0]));
}

TEST(Dense, BiasGradientHasTheSameBitsWithAnyNumberOfThreadsAndPadding) {
  const Tensor dy = random_tensor({1003, 5}, 1), y = random_tensor({1003, 5}, 2);
  const auto one = run_node("DenseActivationGrad", {dy, y}, {{"activation", "relu"}});
  std::vector<double> sums(5);
  for (std::int64_t i = 0; i < dy.elements(); ++i) {
    if (y.data<float>()[i] > 0) sums[static_cast<std::size_t>(i % 5)] += static_cast<double>(dy.data<float>()[i]);
  }
  EXPECT_LT(difference(one[1], sums), 1e-6);
  for (const int threads : {2, 3}) {
    const auto more =
        run_node("DenseActivationGrad", {padded(dy, 4), padded(y, 2)}, {{"activation", "relu"}}, {.threads = threads});
    EXPECT_EQ(more[0].to_vector<float>(), one[0].to_vector<float>());
    EXPECT_EQ(more[1].to_vector<float>(), one[1].to_vector<float>());
  }
}

TEST(Dense, RefusesShapesAndUnknownActivations) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown, 3}),
              weight = g.placeholder("w", DType::float32, {4, 5});
  const Value bias = g.placeholder("b", DType::float32, {5}), good = g.placeholder("v", DType::float32, {3, 5});
  EXPECT_THAT(test::error_of([&] {
                g.add("Dense", {x, weight, bias});
              }),
              HasSubstr("the input's columns are not the weight's rows"));
  EXPECT_THAT(test::error_of([&] {
                g.add("Dense", {x, good, g.placeholder("c", DType::float32, {4})});
              }),
              HasSubstr("the bias"));
  EXPECT_THAT(test::error_of([&] {
                g.add("Dense", {x, good, bias}, {{"activation", "rlu"}});
              }),
              HasSubstr("known: none relu tanh sigmoid"));
}

TEST(OneDnn, ItsReferenceImplementationIsRefused) {
  EXPECT_NO_THROW(onednn::refuse_reference("conv", "jit:avx2"));
  EXPECT_NO_THROW(onednn::refuse_reference("conv", "x64:gemm:jit"));
  EXPECT_THAT(test::error_of([] { onednn::refuse_reference("conv", "ref:any"); }), HasSubstr("'conv'"));
}

}  // namespace
}  // namespace cohort
