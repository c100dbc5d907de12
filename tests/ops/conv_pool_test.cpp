#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/run_node.hpp"

namespace cohort {
namespace {

using test::difference;
using test::random_tensor;
using test::run_node;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  [[nodiscard]] std::int64_t before(int axis) const {
    return same ? std::max<std::int64_t>((out(axis) - 1) * stride + extent(axis) - x[axis], 0) / 2 : 0;
  }
  [[nodiscard]] Shape y() const { return {x[0], out(1), out(2), filter[3]}; }
  [[nodiscard]] std::string text() const {
    return x.text() + " * " + filter.text() + " stride " + std::to_string(stride) + (same ? " same" : " valid") +
           " dilation " + std::to_string(dilation) + " groups " + std::to_string(groups);
  }
};

/// f(index into x, into the filter, into y) for every product that the convolution consists of.
template <class F>
void for_products(const Case& c, F f) {
  const std::int64_t per_group = c.filter[3] / c.groups;
  for (std::int64_t n = 0; n < c.x[0]; ++n)
    for (std::int64_t i = 0; i < c.out(1); ++i)
      for (std::int64_t j = 0; j < c.out(2); ++j)
        for (std::int64_t o = 0; o < c.filter[3]; ++o)
          for (std::int64_t a = 0; a < c.filter[0]; ++a)
            for (std::int64_t b = 0; b < c.filter[1]; ++b)
              for (std::int64_t k = 0; k < c.filter[2]; ++k) {
                const std::int64_t row = i * c.stride - c.before(1) + a * c.dilation,
                                   column = j * c.stride - c.before(2) + b * c.dilation;
                if (row < 0 || row >= c.x[1] || column < 0 || column >= c.x[2]) continue;
                const std::int64_t channel = o / per_group * c.filter[2] + k;
                f(static_cast<std::size_t>(((n * c.x[1] + row) * c.x[2] + column) * c.x[3] + channel),
                  static_cast<std::size_t>(((a * c.filter[1] + b) * c.filter[2] + k) * c.filter[3] + o),
                  static_cast<std::size_t>(((n * c.out(1) + i) * c.out(2) + j) * c.filter[3] + o));
              }
}

std::vector<double> zeros(const Shape& shape) { return std::vector<double>(static_cast<std::size_t>(shape.elements())); }

const Case kCases[] = {{{2, 9, 7, 1}, {5, 5, 1, 32}},
                       {{3, 8, 8, 6}, {5, 5, 6, 16}, 1, false},
                       {{1, 7, 5, 3}, {3, 2, 3, 8}, 2},
                       {{2, 10, 9, 5}, {4, 3, 5, 7}, 3, false},
                       {{1, 6, 6, 4}, {1, 1, 4, 9}, 2},
                       {{1, 9, 9, 3}, {3, 3, 3, 5}, 1, true, 2},
                       {{1, 11, 10, 2}, {3, 2, 2, 3}, 2, false, 3},
                       {{2, 5, 6, 6}, {3, 3, 3, 4}, 1, true, 1, 2},
                       {{1, 7, 7, 16}, {3, 3, 4, 32}, 2, true, 1, 4},
                       {{2, 6, 5, 8}, {3, 3, 1, 8}, 1, true, 1, 8},       // depthwise
                       {{1, 8, 7, 6}, {3, 3, 1, 12}, 2, false, 2, 6},     // depthwise with a multiplier
                       {{1, 1, 1, 1}, {1, 1, 1, 1}},
                       {{1, 2, 2, 3}, {5, 5, 3, 2}},                      // a filter larger than the image
                       {{1, 2, 1, 2}, {1, 1, 2, 2}, 3},
                       {{5, 4, 4, 32}, {5, 5, 32, 64}}};

TEST(Conv2D, ForwardAndBothGradientsEqualTheDefinition) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text());
    const Tensor x = random_tensor(c.x, 1), filter = random_tensor(c.filter, 2), bias = random_tensor({c.filter[3]}, 3),
                 dy = random_tensor(c.y(), 4);
    auto y = zeros(c.y()), dx = zeros(c.x), dfilter = zeros(c.filter), dbias = zeros({c.filter[3]});
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t channel = i % static_cast<std::size_t>(c.filter[3]);
      y[i] = static_cast<double>(bias.data<float>()[channel]);
      dbias[channel] += static_cast<double>(dy.data<float>()[i]);
    }
    auto without_bias = zeros(c.y());
    for_products(c, [&](std::size_t at_x, std::size_t at_filter, std::size_t at_y) {
      const double xv = static_cast<double>(x.data<float>()[at_x]),
                   fv = static_cast<double>(filter.data<float>()[at_filter]);
      const double dyv = static_cast<double>(dy.data<float>()[at_y]);
      y[at_y] += xv * fv;
      without_bias[at_y] += xv * fv;
      dx[at_x] += fv * dyv;
      dfilter[at_filter] += xv * dyv;
    });
    Attrs with_bias = c.attrs();
    with_bias.set("bias", true);
    for (const int threads : {1, 3}) {
      const auto run = [&](const char* op, const std::vector<Tensor>& in, const Attrs& attrs) {
        return run_node(op, in, attrs, {.threads = threads});
      };
      EXPECT_LT(difference(run("Conv2D", {x, filter, bias}, c.attrs())[0], y), 2e-6);
      EXPECT_LT(difference(run("Conv2D", {x, filter}, c.attrs())[0], without_bias), 2e-6);
      EXPECT_LT(difference(run("Conv2DInputGrad", {dy, filter, x}, c.attrs())[0], dx), 2e-6);
      EXPECT_LT(difference(run("Conv2DFilterGrad", {x, dy, filter}, c.attrs())[0], dfilter), 2e-6);
      const auto both = run("Conv2DFilterGrad", {x, dy, filter}, with_bias);
      EXPECT_LT(difference(both[0], dfilter), 2e-6);
      EXPECT_LT(difference(both[1], dbias), 2e-6);
    }
  }
}

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

TEST(Pool, MaximumMeanAndTheirGradientsEqualTheDefinition) {
  struct {
    Shape x;
    std::int64_t size, stride;
    bool same;
  } const cases[] = {{{2, 6, 8, 3}, 2, 2, false}, {{1, 7, 5, 70}, 3, 2, true}, {{3, 5, 5, 1}, 2, 1, false},
                     {{1, 4, 4, 2}, 3, 3, true},  {{2, 7, 7, 6}, 2, 3, false}, {{5, 1, 1, 4}, 2, 2, true},
                     {{0, 4, 4, 1}, 2, 2, false},
                     // Windows that tile the image, with channels that no vector divides.
                     {{2, 4, 6, 10}, 2, 2, false}, {{3, 7, 5, 12}, 2, 2, true},   {{1, 6, 9, 17}, 3, 3, false},
                     {{2, 8, 8, 20}, 4, 4, false}, {{2, 6, 4, 50}, 2, 2, false},  {{2, 3, 5, 9}, 1, 1, false},
                     {{1, 32, 16, 11}, 16, 16, false}};
  for (const auto& p : cases) {
    SCOPED_TRACE(p.x.text() + " size " + std::to_string(p.size) + " stride " + std::to_string(p.stride) +
                 (p.same ? " same" : " valid"));
    const Case c{p.x,   {p.size, p.size, 1, p.x[3]}, p.stride, p.same, 1,
                 p.x[3]};   // a pooling's windows are those of a depthwise convolution
    const Tensor x = random_tensor(c.x, 1), dy = random_tensor(c.y(), 2);
    std::vector<std::vector<std::size_t>> windows(zeros(c.y()).size());
    for_products(c, [&](std::size_t at_x, std::size_t, std::size_t at_y) { windows[at_y].push_back(at_x); });
    auto largest = zeros(c.y()), mean = zeros(c.y()), dx_largest = zeros(c.x), dx_mean = zeros(c.x);
    for (std::size_t i = 0; i < windows.size(); ++i) {
      const double g = static_cast<double>(dy.data<float>()[i]), n = static_cast<double>(windows[i].size());
      const std::size_t best = *std::max_element(windows[i].begin(), windows[i].end(), [&](std::size_t a, std::size_t b) {
        return x.data<float>()[a] < x.data<float>()[b];
      });
      largest[i] = static_cast<double>(x.data<float>()[best]);
      dx_largest[best] += g;
      for (const std::size_t at : windows[i]) {
        mean[i] += static_cast<double>(x.data<float>()[at]) / n;
        dx_mean[at] += g / n;
      }
    }
    for (const int threads : {1, 3}) {
      const auto run = [&](const char* op, const std::vector<Tensor>& in) {
        return run_node(op, in, pooling(p.size, p.stride, p.same), {.threads = threads})[0];
      };
      const auto y = run_node("MaxPool", {x}, pooling(p.size, p.stride, p.same), {.threads = threads});
      EXPECT_EQ(y[0].shape(), c.y());
      EXPECT_EQ(difference(y[0], largest), 0);
      EXPECT_LT(difference(run("MaxPoolGrad", {dy, y[1], x}), dx_largest), 1e-6);
      EXPECT_LT(difference(run("AveragePool", {x}), mean), 1e-6);
      EXPECT_LT(difference(run("AveragePoolGrad", {dy, x}), dx_mean), 1e-6);
    }
  }
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
