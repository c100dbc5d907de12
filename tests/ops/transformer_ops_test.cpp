// Attention, layer norm and dense with gelu at sizes beyond the examples': threads, padded rows, extremes. That they are
// what small ops give is tested in fused_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/run_node.hpp"

namespace cohort::test {
namespace {

TEST(AttentionKernels, HaveTheSameBitsOnAnyNumberOfThreadsAndForPaddedRows) {
  const Attrs attrs{{"heads", 2}, {"causal", true}};
  const Tensor qkv = random_tensor({3, 140, 48}, 1), dy = random_tensor({3, 140, 16}, 2);
  const auto one = run_node("Attention", {qkv}, attrs);
  const auto back = run_node("AttentionGrad", {dy, qkv, one[0], one[1]}, attrs)[0].to_vector<float>();
  for (const int threads : {2, 3, 7}) {
    const auto some = run_node("Attention", {qkv}, attrs, {.threads = threads});
    EXPECT_EQ(some[0].to_vector<float>(), one[0].to_vector<float>()) << threads;
    EXPECT_EQ(some[1].to_vector<float>(), one[1].to_vector<float>()) << threads;
    const auto some_back = run_node("AttentionGrad", {dy, qkv, one[0], one[1]}, attrs, {.threads = threads});
    EXPECT_EQ(some_back[0].to_vector<float>(), back) << threads;
  }
  const auto wide = run_node("Attention", {padded(qkv, 5)}, attrs, {.out = {padded(one[0], 3), padded(one[1], 7)}});
  EXPECT_EQ(wide[0].to_vector<float>(), one[0].to_vector<float>());
  const Tensor dqkv = padded(qkv, 1);
  const std::vector<Tensor> wide_in{padded(dy, 2), padded(qkv, 5), padded(one[0], 3), padded(one[1], 7)};
  const auto wide_back = run_node("AttentionGrad", wide_in, attrs, {.out = {dqkv}});
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
  const std::string error = error_of([] { run_node("Attention", {random_tensor({1, 2, 10}, 1)}, {{"heads", 2}}); });
  EXPECT_NE(error.find("no multiple of 3 · 2 heads"), std::string::npos);
  EXPECT_NE(error_of([] { run_node("Attention", {random_tensor({2, 12}, 1)}, {{"heads", 2}}); }), "no error");
}

// Layer norm and dense with gelu: threads and padded rows, forward and backward.
TEST(LayerNormKernels, HaveTheSameBitsOnAnyNumberOfThreadsAndForPaddedRows) {
  const Attrs attrs{{"epsilon", 1e-5}};
  const Tensor x = random_tensor({200, 37}, 1), branch = random_tensor({200, 37}, 2);
  const Tensor scale = random_tensor({37}, 3), offset = random_tensor({37}, 4);
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
  const std::vector<Tensor> wide{padded(dy, 1), padded(one[3], 3), scale, one[1], one[2], padded(branch, 2)};
  same(run_node("LayerNormGrad", wide, {}, {.out = {padded(x, 5)}}), back);
}

TEST(LayerNormKernels, StayAccurateFarFromZero) {   // a variance from sums of squares would cancel here
  const Tensor x = random_tensor({1, 64}, 1);
  std::vector<double> want(64);
  double mean = 0, variance = 0;
  for (std::int64_t i = 0; i < 64; ++i) x.data<float>()[i] += 4096;
  for (const double v : x.to_vector<float>()) mean += v / 64;
  for (const double v : x.to_vector<float>()) variance += (v - mean) * (v - mean) / 64;
  for (std::size_t i = 0; i < 64; ++i) {
    want[i] = (static_cast<double>(x.data<float>()[i]) - mean) / std::sqrt(variance + 1e-5);
  }
  const Tensor ones = Tensor::of<float>({64}, std::vector<float>(64, 1.f));
  EXPECT_LT(difference(run_node("LayerNorm", {x, ones, Tensor::zeros({64})}, {{"epsilon", 1e-5}})[0], want), 1e-6);
}

TEST(DenseGelu, HasTheSameBitsOnAnyNumberOfThreadsAndForPaddedRows) {
  const Attrs attrs{{"activation", "gelu"}};
  const Tensor x = random_tensor({300, 20}, 1), weight = random_tensor({20, 90}, 2), bias = random_tensor({90}, 3);
  const auto one = run_node("Dense", {x, weight, bias}, attrs);
  ASSERT_EQ(one.size(), 2u);
  const std::vector<Tensor> out{padded(one[0], 6), padded(one[1], 2)};
  const auto wide = run_node("Dense", {padded(x, 1), padded(weight, 6), bias}, attrs, {.threads = 3, .out = out});
  for (const std::size_t k : {0, 1}) {
    const auto values = one[k].to_vector<float>();
    EXPECT_LT(difference(wide[k], {values.begin(), values.end()}), 1e-6);
  }
  EXPECT_TRUE(padding_untouched(out[0]) && padding_untouched(out[1]));
}

TEST(DenseGelu, IsExactInTheTails) {
  std::vector<float> z;
  for (int i = -120; i <= 120; ++i) z.push_back(static_cast<float>(i) / 10);
  const auto n = static_cast<std::int64_t>(z.size());
  const std::vector<Tensor> in{Tensor::of<float>({n, 1}, z), Tensor::of<float>({1, 1}, {1}), Tensor::zeros({1})};
  const auto y = run_node("Dense", in, {{"activation", "gelu"}});
  for (std::size_t i = 0; i < z.size(); ++i) {
    const auto x = static_cast<double>(z[i]), cumulative = 0.5 * std::erfc(-x / std::sqrt(2.0));
    EXPECT_NEAR(y[0].data<float>()[i], x * cumulative, 2e-7 + 1.2e-7 * std::fabs(x)) << x;
    EXPECT_NEAR(y[1].data<float>()[i], cumulative + x * std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979), 4e-7) << x;
  }
}

}  // namespace
}  // namespace cohort::test
