// Attention at sizes beyond the examples': several chunks of queries, against the same made of small ops; threads; padded rows.
#include <gtest/gtest.h>

#include <cmath>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/run_node.hpp"

namespace cohort::test {
namespace {

struct Case {
  std::int64_t samples, positions, heads, width;
  bool causal;
};

/// The formula with every mask and transpose spelt out.
Value unfused(Value qkv, const Case& s) {
  const auto part = [&](std::int64_t i) {
    const Value x = slice(qkv, {0, 0, i * s.heads * s.width}, {-1, -1, s.heads * s.width});
    return transpose(reshape(x, {s.samples, s.positions, s.heads, s.width}), {0, 2, 1, 3});
  };
  Value scores = matmul(part(0), part(1), false, true) * (1.f / std::sqrt(static_cast<float>(s.width)));
  const Tensor mask = Tensor::zeros({s.positions, s.positions});
  for (std::int64_t i = 0; s.causal && i < s.positions; ++i) {
    for (std::int64_t j = i + 1; j < s.positions; ++j) mask.data<float>()[i * s.positions + j] = -1e30f;
  }
  scores = scores + qkv.graph->constant(mask);
  return reshape(transpose(matmul(softmax(scores), part(2)), {0, 2, 1, 3}), {s.samples, s.positions, s.heads * s.width});
}

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, AgreesWithItsUnfusedForm) {
  const Case s = GetParam();
  Graph g;
  const Shape shape{s.samples, s.positions, 3 * s.heads * s.width};
  const Value qkv = g.placeholder("qkv", DType::float32, shape);
  const Value weights = g.constant(random_tensor({s.samples, s.positions, s.heads * s.width}, 2));
  const Value fused = g.add("Attention", {qkv}, {{"heads", s.heads}, {"causal", s.causal}}), apart = unfused(qkv, s);
  const std::vector<Value> wrt{qkv};
  std::vector<Value> fetches{fused, gradients(sum(fused * weights), wrt)[0], apart, gradients(sum(apart * weights), wrt)[0]};
  Session session(g);
  const Tensor x = random_tensor(shape, 1);
  for (float& value : std::span(x.data<float>(), static_cast<std::size_t>(x.elements()))) value *= 3;
  const auto results = session.run(fetches, {{qkv, x}});
  const auto doubles = [](const Tensor& t) {
    const auto values = t.to_vector<float>();
    return std::vector<double>(values.begin(), values.end());
  };
  EXPECT_LT(difference(results[0], doubles(results[2])), 2e-6);
  EXPECT_LT(difference(results[1], doubles(results[3])), 5e-6);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Attention,
                         testing::Values(Case{2, 128, 4, 32, true}, Case{1, 300, 1, 16, true}, Case{2, 131, 2, 5, true},
                                         Case{1, 300, 2, 8, false}, Case{1, 129, 1, 1, false}, Case{3, 2, 1, 64, true}));

TEST(AttentionKernels, HaveTheSameBitsOnAnyNumberOfThreadsAndForPaddedRows) {
  const Attrs attrs{{"heads", 2}, {"causal", true}};
  const Tensor qkv = random_tensor({3, 140, 48}, 1), dy = random_tensor({3, 140, 16}, 2);
  const auto one = run_node("Attention", {qkv}, attrs);
  const auto back = run_node("AttentionGrad", {dy, qkv, one[0], one[1]}, attrs)[0].to_vector<float>();
  for (const int threads : {2, 3, 7}) {
    const auto some = run_node("Attention", {qkv}, attrs, {.threads = threads});
    EXPECT_EQ(some[0].to_vector<float>(), one[0].to_vector<float>()) << threads;
    EXPECT_EQ(some[1].to_vector<float>(), one[1].to_vector<float>()) << threads;
    EXPECT_EQ(run_node("AttentionGrad", {dy, qkv, one[0], one[1]}, attrs, {.threads = threads})[0].to_vector<float>(), back) << threads;
  }
  const auto wide = run_node("Attention", {padded(qkv, 5)}, attrs, {.out = {padded(one[0], 3), padded(one[1], 7)}});
  EXPECT_EQ(wide[0].to_vector<float>(), one[0].to_vector<float>());
  const Tensor dqkv = padded(qkv, 1);
  const auto wide_back = run_node("AttentionGrad", {padded(dy, 2), padded(qkv, 5), padded(one[0], 3), padded(one[1], 7)}, attrs, {.out = {dqkv}});
  EXPECT_EQ(wide_back[0].to_vector<float>(), back);
  EXPECT_TRUE(padding_untouched(dqkv));
}

TEST(AttentionKernels, LaterPositionsDoNotReachEarlierOnes) {
  const Attrs attrs{{"heads", 1}, {"causal", true}};
  Tensor qkv = random_tensor({1, 20, 12}, 3);
  const auto before = run_node("Attention", {qkv}, attrs)[0].to_vector<float>();
  for (std::int64_t i = 11 * 12; i < qkv.elements(); ++i) qkv.data<float>()[i] = 7;
  const auto after = run_node("Attention", {qkv}, attrs)[0].to_vector<float>();
  for (std::size_t i = 0; i < 11 * 4; ++i) ASSERT_EQ(before[i], after[i]) << i;
  EXPECT_NE(before[11 * 4], after[11 * 4]);
}

TEST(AttentionKernels, LargeScoresDoNotOverflow) {
  const Tensor qkv = random_tensor({1, 9, 6}, 4);
  for (std::int64_t i = 0; i < qkv.elements(); ++i) qkv.data<float>()[i] *= 1e4f;
  const auto y = run_node("Attention", {qkv}, {{"heads", 1}});
  for (const float value : y[0].to_vector<float>()) EXPECT_TRUE(std::isfinite(value));
}

TEST(AttentionErrors, NameWhatDoesNotFit) {
  EXPECT_NE(error_of([] { run_node("Attention", {random_tensor({1, 2, 10}, 1)}, {{"heads", 2}}); }).find("no multiple of 3 · 2 heads"),
            std::string::npos);
  EXPECT_NE(error_of([] { run_node("Attention", {random_tensor({2, 12}, 1)}, {{"heads", 2}}); }), "no error");
}

// Layer norm and dense with gelu: threads and padded rows, forward and backward.
TEST(LayerNormKernels, HaveTheSameBitsOnAnyNumberOfThreadsAndForPaddedRows) {
  const Attrs attrs{{"epsilon", 1e-5}};
  const Tensor x = random_tensor({200, 37}, 1), branch = random_tensor({200, 37}, 2), scale = random_tensor({37}, 3), offset = random_tensor({37}, 4);
  const Tensor dy = random_tensor({200, 37}, 5);
  const auto one = run_node("ResidualLayerNorm", {x, branch, scale, offset}, attrs);
  const std::vector<Tensor> given{dy, one[3], scale, one[1], one[2], branch};
  const auto back = run_node("LayerNormGrad", given);
  const auto same = [](const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].to_vector<float>(), b[i].to_vector<float>()) << i;
  };
  for (const int threads : {2, 5}) {
    same(run_node("ResidualLayerNorm", {x, branch, scale, offset}, attrs, {.threads = threads}), one);
    same(run_node("LayerNormGrad", given, {}, {.threads = threads}), back);
  }
  const std::vector<Tensor> out{padded(x, 2), one[1], one[2], padded(x, 4)};
  same(run_node("ResidualLayerNorm", {padded(x, 1), padded(branch, 3), scale, offset}, attrs, {.out = out}), one);
  EXPECT_TRUE(padding_untouched(out[0]) && padding_untouched(out[3]));
  same(run_node("LayerNormGrad", {padded(dy, 1), padded(one[3], 3), scale, one[1], one[2], padded(branch, 2)}, {}, {.out = {padded(x, 5)}}), back);
}

TEST(LayerNormKernels, StayAccurateFarFromZero) {   // a variance from sums of squares would cancel here
  const Tensor x = random_tensor({1, 64}, 1);
  std::vector<double> want(64);
  double mean = 0, variance = 0;
  for (std::int64_t i = 0; i < 64; ++i) x.data<float>()[i] += 4096;
  for (const float v : x.to_vector<float>()) mean += static_cast<double>(v) / 64;
  for (const float v : x.to_vector<float>()) variance += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean) / 64;
  for (std::size_t i = 0; i < 64; ++i) want[i] = (static_cast<double>(x.data<float>()[i]) - mean) / std::sqrt(variance + 1e-5);
  const Tensor ones = Tensor::of<float>({64}, std::vector<float>(64, 1.f));
  EXPECT_LT(difference(run_node("LayerNorm", {x, ones, Tensor::zeros({64})}, {{"epsilon", 1e-5}})[0], want), 1e-3);
}

TEST(DenseGelu, HasTheSameBitsOnAnyNumberOfThreadsAndForPaddedRows) {
  const Attrs attrs{{"activation", "gelu"}};
  const Tensor x = random_tensor({300, 20}, 1), weight = random_tensor({20, 90}, 2), bias = random_tensor({90}, 3);
  const auto one = run_node("Dense", {x, weight, bias}, attrs);
  ASSERT_EQ(one.size(), 2u);
  const std::vector<Tensor> out{padded(one[0], 6), padded(one[1], 2)};
  const auto wide = run_node("Dense", {padded(x, 1), padded(weight, 6), bias}, attrs, {.threads = 3, .out = out});
  EXPECT_LT(difference(wide[0], [&] { const auto v = one[0].to_vector<float>(); return std::vector<double>(v.begin(), v.end()); }()), 1e-6);
  EXPECT_LT(difference(wide[1], [&] { const auto v = one[1].to_vector<float>(); return std::vector<double>(v.begin(), v.end()); }()), 1e-6);
  EXPECT_TRUE(padding_untouched(out[0]) && padding_untouched(out[1]));
}

TEST(DenseGelu, IsExactInTheTails) {
  std::vector<float> z;
  for (int i = -120; i <= 120; ++i) z.push_back(static_cast<float>(i) / 10);
  const auto n = static_cast<std::int64_t>(z.size());
  const auto y = run_node("Dense", {Tensor::of<float>({n, 1}, z), Tensor::of<float>({1, 1}, {1}), Tensor::zeros({1})}, {{"activation", "gelu"}});
  for (std::size_t i = 0; i < z.size(); ++i) {
    const auto x = static_cast<double>(z[i]), cumulative = 0.5 * std::erfc(-x / std::sqrt(2.0));
    EXPECT_NEAR(y[0].data<float>()[i], x * cumulative, 2e-7 + 1.2e-7 * std::fabs(x)) << x;
    EXPECT_NEAR(y[1].data<float>()[i], cumulative + x * std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979), 4e-7) << x;
  }
}

}  // namespace
}  // namespace cohort::test
