// What enters products is rounded to bfloat16, nothing else is: against scalar loops in double.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "cohort/base/random.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

/// By the definition, not by the type's conversion: of the two neighbours with 8 bits of mantissa the nearer, ties to even.
double rounded(double x) {
  if (x == 0) return 0;
  const double unit = std::ldexp(1.0, std::ilogb(x) - 7);
  return std::nearbyint(x / unit) * unit;
}

std::vector<float> random(std::int64_t n, std::uint64_t stream) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 2 * random_uniform(7, stream, i) - 1;
  return values;
}

std::vector<double> product(std::int64_t m, std::int64_t k, std::int64_t n, auto a, auto b) {
  std::vector<double> y(static_cast<std::size_t>(m * n));
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t l = 0; l < k; ++l) y[static_cast<std::size_t>(i * n + j)] += rounded(a(i, l)) * rounded(b(l, j));
    }
  }
  return y;
}

void expect_near(const Tensor& got, const std::vector<double>& want) {
  const auto values = got.to_vector<float>();
  ASSERT_EQ(values.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(values[i], want[i], 1e-5 * (1 + std::fabs(want[i]))) << i;
}

/// Can this processor run a session that multiplies bfloat16? The error of one that cannot must say so.
bool multiplies_bf16() {
  Graph graph;
  const Value x = graph.placeholder("x", DType::float32, {2, 2});
  Session session(graph, {.precision = Precision::bf16_native});
  try {
    (void)session.run(matmul(x, x), {{x, Tensor::zeros({2, 2})}});
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::failed_precondition);
    EXPECT_NE(std::string(error.what()).find("multiplies bfloat16"), std::string::npos) << error.what();
    return false;
  }
}

void expect_products_of_rounded_factors(Precision precision, int threads = 1) {
  for (const auto [m, k, n] : {std::array{1, 1, 1}, std::array{3, 7, 5}, std::array{17, 31, 13}, std::array{53, 9, 512}}) {
    SCOPED_TRACE(std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n));
    const auto x = random(m * k, 1), w = random(k * n, 2), b = random(n, 3), g = random(m * n, 4);
    Graph graph;
    const Value vx = graph.placeholder("x", DType::float32, {m, k}), vg = graph.placeholder("g", DType::float32, {m, n});
    const Value vw = graph.variable("w", {k, n}, "zeros"), vb = graph.variable("b", {n}, "zeros");
    const Value y = graph.add("Dense", {vx, vw, vb})[0];
    std::vector<Value> fetches = gradients(sum(y * vg), std::array{vx, vw});
    fetches.push_back(y);
    Session session(graph, {.threads = threads, .precision = precision});
    session.variable(vw).copy_from(Tensor::of({k, n}, w));
    session.variable(vb).copy_from(Tensor::of({n}, b));
    const auto got = session.run(fetches, {{vx, Tensor::of({m, k}, x)}, {vg, Tensor::of({m, n}, g)}});
    const auto at = [](const std::vector<float>& values, int columns) {
      return [&values, columns](std::int64_t i, std::int64_t j) { return static_cast<double>(values[static_cast<std::size_t>(i * columns + j)]); };
    };
    const auto ax = at(x, k), aw = at(w, n), ag = at(g, n);
    std::vector<double> forward = product(m, k, n, ax, aw);
    for (int i = 0; i < m * n; ++i) forward[static_cast<std::size_t>(i)] += b[static_cast<std::size_t>(i % n)];     // a bias is no factor
    expect_near(got[0], product(m, n, k, ag, [&](auto i, auto j) { return aw(j, i); }));
    expect_near(got[1], product(k, m, n, [&](auto i, auto j) { return ax(j, i); }, ag));
    expect_near(got[2], forward);
    EXPECT_EQ(session.variable(vw).to_vector<float>(), w);                          // the master copy stays
  }
}

TEST(Bf16Products, AreProductsOfRoundedFactorsForwardAndBackward) { expect_products_of_rounded_factors(Precision::bf16); }

TEST(Bf16Products, AreTheSameByTheProcessorsInstructions) {
  if (!multiplies_bf16()) GTEST_SKIP() << "this processor has no bfloat16 products";
  for (const int threads : {1, 3}) expect_products_of_rounded_factors(Precision::bf16_native, threads);
  for (const Shape& b : {Shape{3, 6, 4}, Shape{6, 4}}) {                           // batches, and results with padded rows
    Graph graph;
    const Value x = graph.placeholder("x", DType::float32, {3, 5, 6}), y = graph.placeholder("y", DType::float32, b);
    const Value z = matmul(x, y);
    Session rounding(graph, {.precision = Precision::bf16}), native(graph, {.precision = Precision::bf16_native});
    const Feeds feeds{{x, Tensor::of({3, 5, 6}, random(90, 6))}, {y, Tensor::of(b, random(b.elements(), 7))}};
    const auto want = rounding.run(z, feeds).to_vector<float>();
    expect_near(native.run(z, feeds), {want.begin(), want.end()});
  }
}

TEST(Bf16Products, LeaveEverythingElseAlone) {
  const auto x = random(24, 5);
  Graph graph;
  const Value v = graph.placeholder("x", DType::float32, {4, 6});
  const Value y = softmax(v) + relu(v) * v;
  Session plain(graph), rounding(graph, {.precision = Precision::bf16});
  const Feeds feeds{{v, Tensor::of({4, 6}, x)}};
  EXPECT_EQ(plain.run(y, feeds).to_vector<float>(), rounding.run(y, feeds).to_vector<float>());
}

TEST(Bf16Products, AreMarkedWhereverFlopsAreCounted) {
  for (const auto& [name, entry] : Registry<Op>::instance().entries()) {
    EXPECT_EQ(entry.value.flops != nullptr, !entry.value.products.empty()) << name;
  }
}

}  // namespace
}  // namespace cohort
