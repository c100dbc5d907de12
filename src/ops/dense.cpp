// A fully connected layer as one op: y = activation(x·weight + bias). With z the argument of the activation, the gradients
// are dz = dy ⊙ activation'(z), written in terms of y; dx = dz·weightᵀ; dweight = xᵀ·dz; dbias = the column sums of dz
// (Goodfellow, Bengio, Courville, "Deep Learning", 2016, algorithm 6.4).
//
// The derivative of gelu is no function of y: with it the op has a second result, activation'(z), which costs little beside y.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/tensor/vector_math.hpp"
#include "column_sums.hpp"
#include "gelu.hpp"
#include "onednn.hpp"
#include "product.hpp"
#include "product_of_rows.hpp"

namespace cohort {
namespace {

enum class Activation { none, relu, tanh, sigmoid, gelu };
constexpr std::array<std::string_view, 5> kNames = {"none", "relu", "tanh", "sigmoid", "gelu"};
constexpr std::int64_t kGrain = 16384;   // elements per thread below which waking a thread costs more

Activation activation_of(const Attrs& attrs) {
  const std::string name = attrs.get<std::string>("activation", "none");
  const auto at = std::find(kNames.begin(), kNames.end(), name);
  check(at != kNames.end(), Code::invalid_argument, "activation is \"" + name + "\", known: none relu tanh sigmoid gelu");
  return static_cast<Activation>(at - kNames.begin());
}

void check_activation(const Inference& c) {
  const std::string name = c.attrs.get<std::string>("activation", "none");
  if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
    c.refuse("activation is \"" + name + "\", known: none relu tanh sigmoid gelu");
  }
}

/// Calls f with the activation and its derivative in terms of the result (gelu: of the second result), so that the branch is
/// outside the loops.
template <class F>
void with(Activation activation, F f) {
  switch (activation) {
    case Activation::none: return f([](float z) { return z; }, [](float) { return 1.f; });
    case Activation::relu:   // NaN stays NaN
      return f([](float z) { return z <= 0.f ? 0.f : z; }, [](float y) { return y <= 0.f ? 0.f : 1.f; });
    case Activation::tanh: return f([](float z) { return vec::tanh(z); }, [](float y) { return 1.f - y * y; });
    case Activation::sigmoid:
      return f([](float z) { return vec::sigmoid(z); }, [](float y) { return y * (1.f - y); });
    case Activation::gelu: return f([](float z) { return gelu_with_slope(z).y; }, [](float slope) { return slope; });
  }
}

std::vector<Signature> infer_dense(const Inference& c) {
  c.expect_inputs(3);
  for (const std::size_t i : {0u, 1u, 2u}) c.expect_float(i);
  if (c.shape(0).rank() < 2) c.refuse("input 0 must have at least 2 dimensions");
  c.expect_rank(1, 2);
  c.expect_rank(2, 1);
  check_activation(c);
  if (!compatible(Shape{c.shape(0)[-1]}, Shape{c.shape(1)[0]})) c.refuse("the input's columns are not the weight's rows");
  if (!compatible(Shape{c.shape(1)[1]}, c.shape(2))) c.refuse("the bias must have one element per column of the weight");
  Shape result = c.shape(0);
  result.set(-1, c.shape(1)[1]);
  const Signature y{DType::float32, result};
  return activation_of(c.attrs) == Activation::gelu ? std::vector{y, y} : std::vector{y};
}

class DenseKernel final : public Kernel {
 public:
  explicit DenseKernel(const NodeInfo& info)
      : rows_(info.out[0].shape.rows()),
        in_(info.in[1].shape[0]),
        units_(info.in[1].shape[1]),
        activation_(activation_of(info.attrs)),
        product_(info, {rows_, units_, in_}, false, false) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    const Tensor &x = c.in(0), &weight = c.in(1), &y = c.out();
    product_.run(c.pool(), {x.data<float>(), x.ld(), false}, {weight.data<float>(), weight.ld(), false}, y.data<float>(), y.ld());
    const float* bias = c.in(2).data<float>();
    if (activation_ == Activation::gelu) return run_gelu(c, bias);
    with(activation_, [&](auto f, auto) {
      for_rows(c.pool(), [&](std::int64_t i) {
        float* row = y.data<float>() + i * y.ld();
        for (std::int64_t j = 0; j < units_; ++j) row[j] = f(row[j] + bias[j]);
      });
    });
  }

 private:
  template <class F>
  void for_rows(ThreadPool& pool, F f) const {
    pool.parallel_for(rows_, kGrain / std::max<std::int64_t>(units_, 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) f(i);
    });
  }

  void run_gelu(KernelContext& c, const float* bias) const {
    const Tensor &y = c.out(0), &slope = c.out(1);
    for_rows(c.pool(), [&](std::int64_t i) {
      float *row = y.data<float>() + i * y.ld(), *slopes = slope.data<float>() + i * slope.ld();
#pragma GCC ivdep
      for (std::int64_t j = 0; j < units_; ++j) {
        const GeluResult both = gelu_with_slope(row[j] + bias[j]);
        row[j] = both.y;
        slopes[j] = both.slope;
      }
    });
  }

  std::int64_t rows_, in_, units_;
  Activation activation_;
  onednn::Product product_;
};

/// dz and the bias' gradient in one pass. Inputs dy and y; with no activation dz is dy, and only the bias' is left
/// (DenseBiasGrad).
class DenseActivationGradKernel final : public Kernel {
 public:
  explicit DenseActivationGradKernel(const NodeInfo& info)
      : columns_(info.in[0].shape.columns()),
        activation_(activation_of(info.attrs)),
        sums_(info, info.in[0].shape.rows(), columns_) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    const Tensor &dy = c.in(0), &y = c.in(1), &dz = c.out(0);
    with(activation_, [&](auto, auto derivative) {
      sums_.run(c.pool(), [&](std::int64_t begin, std::int64_t end, float* sums) {
        for (std::int64_t i = begin; i < end; ++i) {
          const float *dy_row = dy.data<float>() + i * dy.ld(), *y_row = y.data<float>() + i * y.ld();
          float* dz_row = dz.data<float>() + i * dz.ld();
          for (std::int64_t j = 0; j < columns_; ++j) {
            const float product = dy_row[j] * derivative(y_row[j]);
            dz_row[j] = product;
            sums[j] += product;
          }
        }
      }, c.out(1).data<float>());
    });
  }

 private:
  std::int64_t columns_;
  Activation activation_;
  ColumnSums sums_;
};

class DenseBiasGradKernel final : public Kernel {
 public:
  explicit DenseBiasGradKernel(const NodeInfo& info)
      : columns_(info.in[0].shape.columns()), sums_(info, info.in[0].shape.rows(), columns_) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    const Tensor& dy = c.in(0);
    sums_.run(c.pool(), [&](std::int64_t begin, std::int64_t end, float* sums) {
      for (std::int64_t i = begin; i < end; ++i) {
        const float* row = dy.data<float>() + i * dy.ld();
        for (std::int64_t j = 0; j < columns_; ++j) sums[j] += row[j];
      }
    }, c.out().data<float>());
  }

 private:
  std::int64_t columns_;
  ColumnSums sums_;
};

/// What comes back to gelu's second result: the second derivative is φ(z) (2 − z²).
Value through_slope(const Backward& b) {
  const Value z = b.graph.add("Dense", {b.x(0), b.x(1), b.x(2)}), squares = square(z);
  return b.dy(1) * exp(squares * -0.5f) * (b.graph.constant(2.f) - squares) * 0.39894228040143268f;
}

std::vector<Value> gradient_of_dense(const Backward& b) {
  const Value x = b.x(0), weight = b.x(1);
  const Activation activation = activation_of(b.attrs);
  std::vector<Value> d(3);
  Value dz = b.dy();
  if (activation != Activation::none) {
    const Node both = b.graph.add("DenseActivationGrad", {dz, b.y(activation == Activation::gelu ? 1 : 0)},
                                  {{"activation", b.attrs.get<std::string>("activation")}});
    dz = both[0];
    d[2] = both[1];
    if (activation == Activation::gelu && b.has_dy(1)) {
      dz = dz + through_slope(b);
      d[2] = b.graph.add("DenseBiasGrad", {dz});
    }
  } else if (b.wants(2)) {
    d[2] = b.graph.add("DenseBiasGrad", {dz});
  }
  if (b.wants(1)) d[1] = product_of_rows(x, dz, weight, false);
  if (b.wants(0)) d[0] = matmul(dz, weight, false, true);
  return d;
}

std::vector<Signature> infer_activation_grad(const Inference& c) {
  c.expect_inputs(2);
  c.expect_float(0);
  c.expect_float(1);
  check_activation(c);
  const Shape shape = c.expect_same_shape(0, 1);
  if (shape.rank() < 1) c.refuse("input 0 must have at least 1 dimension");
  return {{DType::float32, shape}, {DType::float32, Shape{shape[-1]}}};
}

std::vector<Signature> infer_bias_grad(const Inference& c) {
  c.expect_inputs(1);
  c.expect_float(0);
  if (c.shape(0).rank() < 1) c.refuse("input 0 must have at least 1 dimension");
  return {{DType::float32, Shape{c.shape(0)[-1]}}};
}

std::vector<Example> dense_examples() {
  std::vector<Example> list;
  for (const char* activation : {"none", "tanh", "sigmoid", "gelu"}) {
    list.push_back({.in = {{.shape = {3, 5}}, {.shape = {5, 2}}, {.shape = {2}}}, .attrs = {{"activation", activation}}});
  }
  // Away from the kink of relu: all arguments positive, then some negative.
  list.push_back({.in = {{.shape = {3, 5}, .low = 0.1}, {.shape = {5, 2}, .low = 0.1}, {.shape = {2}, .low = 0}},
                  .attrs = {{"activation", "relu"}}});
  list.push_back({.in = {{.shape = {2, 1}, .values = {1, -2}}, {.shape = {1, 3}, .values = {1, -1, 0.5}},
                         {.shape = {3}, .values = {0.25, 0.5, -0.125}}},
                  .attrs = {{"activation", "relu"}},
                  .expected = {{1.25, 0, 0.375, 0, 2.5, 0}}});
  list.push_back({.in = {{.shape = {2, 3, 4}}, {.shape = {4, 5}}, {.shape = {5}}}, .attrs = {{"activation", "tanh"}}});
  list.push_back({.in = {{.shape = {4, 3}, .low = -3, .high = 3}, {.shape = {3, 17}, .low = -2, .high = 2}, {.shape = {17}}},
                  .attrs = {{"activation", "gelu"}}});
  list.push_back({.in = {{.shape = {0, 4}}, {.shape = {4, 5}}, {.shape = {5}}}, .expected = {{}}});
  return list;
}

/// The matrix product's.
double flops_of_dense(std::span<const Signature> in, std::span<const Signature> out, const Attrs&) {
  return 2.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(in[1].shape[0]);
}

const Registered<Op> dense_op{
    "Dense", {.infer = infer_dense, .gradient = gradient_of_dense, .examples = dense_examples(), .flops = flops_of_dense,
              .products = {0, 1}, .native_bf16 = true}};
const RegisteredKernel dense_kernel{"Dense", "CPU", make_kernel<DenseKernel>};

const Registered<Op> activation_grad_op{
    "DenseActivationGrad",
    {.infer = infer_activation_grad,
     .examples = {{.in = {{.shape = {2, 3}, .values = {1, 2, 3, 4, 5, 6}},
                          {.shape = {2, 3}, .values = {1, 0, 2, 0, 0, 0.5}}},
                   .attrs = {{"activation", "relu"}},
                   .expected = {{1, 0, 3, 0, 0, 6}, {1, 0, 9}}},
                  {.in = {{.shape = {1, 2}, .values = {2, 4}}, {.shape = {1, 2}, .values = {0.5, -0.5}}},
                   .attrs = {{"activation", "tanh"}},
                   .expected = {{1.5, 3}, {1.5, 3}}},
                  {.in = {{.shape = {2, 1}, .values = {2, 4}}, {.shape = {2, 1}, .values = {0.5, 0.25}}},
                   .attrs = {{"activation", "sigmoid"}},
                   .expected = {{0.5, 0.75}, {1.25}}},
                  {.in = {{.shape = {2, 1}, .values = {2, 4}}, {.shape = {2, 1}, .values = {0.5, -0.25}}},
                   .attrs = {{"activation", "gelu"}},
                   .expected = {{1, -1}, {0}}}},
     .reuse = {{.output = 0, .input = 0}}}};
const RegisteredKernel activation_grad_kernel{"DenseActivationGrad", "CPU", make_kernel<DenseActivationGradKernel>};

const Registered<Op> bias_grad_op{
    "DenseBiasGrad",
    {.infer = infer_bias_grad,
     .examples = {{.in = {{.shape = {3, 2}, .values = {1, 2, 3, 4, 5, 6}}}, .expected = {{9, 12}}},
                  {.in = {{.shape = {0, 2}}}, .expected = {{0, 0}}}}}};
const RegisteredKernel bias_grad_kernel{"DenseBiasGrad", "CPU", make_kernel<DenseBiasGradKernel>};

}  // namespace
}  // namespace cohort
