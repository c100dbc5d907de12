#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/run_node.hpp"

namespace cohort {
namespace {

using test::random_tensor;
using test::run_node;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A convolution by its shapes. What it computes is compared with its formula by op_sweep_test.
struct Case {
  Shape x, filter;
  std::int64_t stride = 1;
  bool same = true;
  std::int64_t dilation = 1, groups = 1;

  [[nodiscard]] Attrs attrs() const {
    return {{"stride", stride}, {"padding", same ? "same" : "valid"}, {"dilation", dilation}, {"groups", groups}};
  }
  [[nodiscard]] std::int64_t extent(int axis) const { return (filter[axis - 1] - 1) * dilation + 1; }
  [[nodiscard]] std::int64_t out(int axis) const {
    return same ? (x[axis] + stride - 1) / stride : (x[axis] - extent(axis)) / stride + 1;
  }
  [[nodiscard]] Shape y() const { return {x[0], out(1), out(2), filter[3]}; }
  [[nodiscard]] std::string text() const {
    return x.text() + " * " + filter.text() + " stride " + std::to_string(stride) + (same ? " same" : " valid") +
           " dilation " + std::to_string(dilation) + " groups " + std::to_string(groups);
  }
};

TEST(Conv2D, TheBitsDoNotDependOnTheNumberOfThreads) {
  for (const Case& c : {Case{{33, 14, 14, 8}, {5, 5, 8, 16}}, Case{{17, 28, 28, 1}, {3, 3, 1, 6}},
                        Case{{9, 16, 16, 16}, {1, 1, 16, 32}, 2}, Case{{7, 9, 9, 6}, {3, 3, 1, 6}, 1, true, 1, 6}}) {
    SCOPED_TRACE(c.text());
    const Tensor x = random_tensor(c.x, 1), filter = random_tensor(c.filter, 2), dy = random_tensor(c.y(), 4);
    Attrs with_bias = c.attrs();
    with_bias.set("bias", true);
    std::vector<std::vector<float>> first;
    for (const int threads : {1, 2, 3, 5}) {
      std::vector<std::vector<float>> results;
      for (const Tensor& r : run_node("Conv2DFilterGrad", {x, dy, filter}, with_bias, {.threads = threads})) {
        results.push_back(r.to_vector<float>());
      }
      results.push_back(run_node("Conv2D", {x, filter}, c.attrs(), {.threads = threads})[0].to_vector<float>());
      results.push_back(run_node("Conv2DInputGrad", {dy, filter, x}, c.attrs(), {.threads = threads})[0].to_vector<float>());
      if (threads == 1) first = results;
      EXPECT_EQ(results, first) << threads << " threads";
    }
  }
}

TEST(Conv2D, TrainingShapesAvoidTheReferenceImplementation) {
  // Making these kernels fails if oneDNN has only its plain loops for them. The first is a net's first layer, where blocked
  // images would need them for the filter's gradient.
  for (const Case& c :
       {Case{{64, 28, 28, 1}, {5, 5, 1, 32}}, Case{{64, 28, 28, 1}, {5, 5, 1, 6}}, Case{{8, 32, 32, 3}, {3, 3, 3, 16}},
        Case{{2, 64, 64, 3}, {7, 7, 3, 64}, 2}, Case{{3, 14, 14, 128}, {1, 1, 128, 256}, 2}}) {
    SCOPED_TRACE(c.text());
    Attrs attrs = c.attrs();
    attrs.set("bias", true);
    EXPECT_NO_THROW(
        (void)run_node("Conv2DFilterGrad", {Tensor::zeros(c.x), Tensor::zeros(c.y()), Tensor::zeros(c.filter)}, attrs));
    EXPECT_NO_THROW((void)run_node("Conv2D", {Tensor::zeros(c.x), Tensor::zeros(c.filter)}, c.attrs()));
    EXPECT_NO_THROW(
        (void)run_node("Conv2DInputGrad", {Tensor::zeros(c.y()), Tensor::zeros(c.filter), Tensor::zeros(c.x)}, c.attrs()));
  }
}

TEST(Conv2D, ANetWithoutImagesHasZeroGradients) {
  const Case c{{0, 4, 4, 2}, {3, 3, 2, 3}};
  Attrs attrs = c.attrs();
  attrs.set("bias", true);
  EXPECT_EQ(run_node("Conv2D", {Tensor::zeros(c.x), random_tensor(c.filter, 1)}, c.attrs())[0].shape(), (Shape{0, 4, 4, 3}));
  const auto d = run_node("Conv2DFilterGrad", {Tensor::zeros(c.x), Tensor::zeros(c.y()), random_tensor(c.filter, 1)}, attrs);
  EXPECT_THAT(d[0].to_vector<float>(), ::testing::Each(0.f));
  EXPECT_THAT(d[1].to_vector<float>(), ::testing::Each(0.f));
}

TEST(Conv2D, RefusesShapesThatDoNotFit) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown, 4, 4, 3});
  const auto conv = [&](const Shape& filter, Attrs attrs) {
    return test::error_of([&] { g.add("Conv2D", {x, g.placeholder("f", DType::float32, filter)}, attrs, "conv"); });
  };
  EXPECT_THAT(conv({3, 3, 2, 8}, {{"padding", "same"}}),
              ::testing::AllOf(HasSubstr("Conv2D 'conv"), HasSubstr("3 channels"), HasSubstr("they have 2"),
                               HasSubstr("float32[?, 4, 4, 3]")));
  EXPECT_THAT(conv({5, 5, 3, 8}, {{"padding", "valid"}}),
              HasSubstr("a window of 5 elements does not fit into a dimension of 4"));
  EXPECT_THAT(conv({3, 3, 1, 8}, {{"padding", "same"}, {"groups", 3}}), HasSubstr("3 groups do not divide 8 filters"));
  EXPECT_THAT(conv({3, 3, 3, 8}, {{"padding", "full"}}), HasSubstr("it must be \"same\" or \"valid\""));
  EXPECT_THAT(conv({3, 3, 3, 8}, {{"padding", "same"}, {"stride", 0}}), HasSubstr("stride is 0"));
}

Attrs pooling(std::int64_t size, std::int64_t stride, bool same) {
  return {{"size", size}, {"stride", stride}, {"padding", same ? "same" : "valid"}};
}

TEST(Pool, MaximumKeepsNaNAndGivesItTheGradient) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::of<float>({1, 2, 4, 1}, {1, nan, 5, 5, 3, 2, 5, 0});
  for (const bool relu : {false, true}) {
    Attrs attrs = pooling(2, 2, false);
    attrs.set("relu", relu);
    const auto y = run_node("MaxPool", {x}, attrs);
    EXPECT_TRUE(std::isnan(y[0].data<float>()[0]));
    EXPECT_EQ(y[0].data<float>()[1], 5);
    const auto dx = run_node("MaxPoolGrad", {Tensor::of<float>({1, 1, 2, 1}, {7, 8}), y[1], x}, pooling(2, 2, false));
    EXPECT_THAT(dx[0].to_vector<float>(), ElementsAre(0, 7, 8, 0, 0, 0, 0, 0));
  }
}

TEST(Pool, MaximumOfARectifiedValueIsOneOpWithTheSameBits) {
  for (const std::int64_t channels : {1, 6, 32, 70}) {
    const Tensor x = random_tensor({2, 7, 8, channels}, 1), weight = random_tensor({2, 3, 4, channels}, 2);
    Graph g;
    const Value image = g.placeholder("x", DType::float32, x.shape()), w = g.placeholder("w", DType::float32, weight.shape());
    const Value rectified = relu(image), pooled = max_pool(rectified, 2, 2);
    const Value apart = g.add("MaxPool", {rectified}, pooling(2, 2, false));
    EXPECT_EQ(g.node(pooled.node).inputs[0], image);
    std::vector<Value> fetches{pooled, apart};
    for (const Value y : {pooled, apart}) fetches.push_back(gradients(sum(y * w), std::array{image})[0]);
    Session session(g);
    const auto results = session.run(fetches, {{image, x}, {w, weight}});
    EXPECT_EQ(results[0].to_vector<float>(), results[1].to_vector<float>());
    EXPECT_EQ(results[2].to_vector<float>(), results[3].to_vector<float>());
  }
}

TEST(Pool, RefusesWindowsThatDoNotFit) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown, 3, 3, 1});
  EXPECT_THAT(test::error_of([&] { g.add("MaxPool", {x}, pooling(4, 1, false)); }), HasSubstr("does not fit"));
  EXPECT_THAT(test::error_of([&] { g.add("AveragePool", {x}, pooling(0, 1, false)); }), HasSubstr("size is 0"));
  EXPECT_EQ(Value(g.add("MaxPool", {x}, pooling(2, 2, true))).shape(), (Shape{Shape::kUnknown, 2, 2, 1}));
}

}  // namespace
}  // namespace cohort
