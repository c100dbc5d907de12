// Layer normalisation over the last axis (Ba, Kiros & Hinton, "Layer normalization", 2016, eq. 4): y = scale · x̂ + offset,
// x̂ = (x − mean) · r, r = 1 / √(variance + ε), with mean and biased variance of each row. With g = scale · dy the gradients
// are dx = r (g − ⟨g⟩ − x̂ ⟨g x̂⟩), ⟨·⟩ the mean over the row, dscale = Σ dy x̂ and doffset = Σ dy over the rows.
//
// ResidualLayerNorm adds a branch first, x = residual + branch, and returns the sum as well: what a pre-norm transformer does
// between two blocks. Its gradient adds what comes back to the sum in the same pass.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "column_sums.hpp"
#include "lanes.hpp"

namespace cohort {
namespace {

constexpr std::int64_t kGrain = 16384;   // elements per thread below which waking a thread costs more

const float* row_of(const Tensor& x, std::int64_t row) { return x.data<float>() + row * x.ld(); }
float* row_to(const Tensor& x, std::int64_t row) { return x.data<float>() + row * x.ld(); }
/// What belongs to a row of x, in a tensor of one number per row: its own rows, fewer and longer, may be padded as well.
float& number_of(const Tensor& numbers, std::int64_t row) {
  const std::int64_t columns = numbers.columns();
  return numbers.data<float>()[row / columns * numbers.ld() + row % columns];
}

struct RowStatistics {
  float mean, late;      // late: by how much the mean falls short of the true one
  float inverse;         // 1 / √(variance + ε)
};

/// A float near a large mean, and the sum of large numbers that it is made of, are off by more than a small deviation bears: so
/// the mean of what is left is taken as well.
RowStatistics statistics_of(const float* x, std::int64_t n, float epsilon) {
  const auto count = static_cast<float>(n);
  const float mean = join_lanes<FloatSumOf>(n, [x](std::int64_t i) { return x[i]; }) / count;
  const float late = join_lanes<FloatSumOf>(n, [x, mean](std::int64_t i) { return x[i] - mean; }) / count;
  const float squares = join_lanes<FloatSumOf>(n, [x, mean](std::int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  return {mean, late, 1.f / std::sqrt(std::max(squares / count - late * late, 0.f) + epsilon)};
}

/// Inputs x, scale, offset, or (with a residual) residual, branch, scale, offset; outputs y, mean, r, and then the sum.
class LayerNormKernel final : public Kernel {
 public:
  explicit LayerNormKernel(const NodeInfo& info)
      : columns_(info.in[0].shape.columns()), rows_(info.in[0].shape.rows()),
        epsilon_(static_cast<float>(info.attrs.get<double>("epsilon"))), residual_(info.in.size() == 4) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    const std::size_t first = residual_ ? 2 : 1;
    const float *scale = c.in(first).data<float>(), *offset = c.in(first + 1).data<float>();
    c.pool().parallel_for(rows_, kGrain / std::max<std::int64_t>(columns_, 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const float* x = residual_ ? add(c, row) : row_of(c.in(0), row);
        const auto [mean, late, inverse] = statistics_of(x, columns_, epsilon_);
        float* y = row_to(c.out(0), row);
#pragma GCC ivdep
        for (std::int64_t j = 0; j < columns_; ++j) y[j] = ((x[j] - mean) - late) * inverse * scale[j] + offset[j];
        number_of(c.out(1), row) = mean + late;
        number_of(c.out(2), row) = inverse;
      }
    });
  }

 private:
  [[nodiscard]] const float* add(const KernelContext& c, std::int64_t row) const {
    const float *residual = row_of(c.in(0), row), *branch = row_of(c.in(1), row);
    float* sum = row_to(c.out(3), row);
#pragma GCC ivdep
    for (std::int64_t j = 0; j < columns_; ++j) sum[j] = residual[j] + branch[j];
    return sum;
  }

  std::int64_t columns_, rows_;
  float epsilon_;
  bool residual_;
};

/// Inputs dy, x, scale, mean, r; then the gradient of the sum if there is one; then those of mean and r if there are any.
/// Outputs dx, dscale, doffset.
class LayerNormGradKernel final : public Kernel {
 public:
  explicit LayerNormGradKernel(const NodeInfo& info)
      : columns_(info.in[0].shape.columns()), inputs_(info.in.size()), sums_(info, info.in[0].shape.rows(), 2 * columns_),
        both_(static_cast<std::size_t>(2 * columns_)) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    sums_.run(c.pool(), [&](std::int64_t begin, std::int64_t end, float* sums) {
      for (std::int64_t row = begin; row < end; ++row) run_row(c, row, sums);
    }, both_.data());
    std::copy_n(both_.data(), columns_, c.out(1).data<float>());
    std::copy_n(both_.data() + columns_, columns_, c.out(2).data<float>());
  }

 private:
  void run_row(const KernelContext& c, std::int64_t row, float* sums) const {
    const float *dy = row_of(c.in(0), row), *x = row_of(c.in(1), row), *scale = c.in(2).data<float>();
    const float mean = number_of(c.in(3), row), inverse = number_of(c.in(4), row), n = static_cast<float>(columns_);
    const float g_mean = join_lanes<FloatSumOf>(columns_, [=](std::int64_t j) { return dy[j] * scale[j]; }) / n;
    const float gx_mean =
        join_lanes<FloatSumOf>(columns_, [=](std::int64_t j) { return dy[j] * scale[j] * (x[j] - mean); }) * inverse / n;
    float shift = g_mean * inverse, slope = gx_mean * inverse;   // dx = r g − shift − slope x̂
    if (inputs_ >= 7) {
      shift -= number_of(c.in(inputs_ - 2), row) / n;
      slope += number_of(c.in(inputs_ - 1), row) * inverse * inverse / n;
    }
    float *dx = row_to(c.out(0), row), *dscale = sums, *doffset = sums + columns_;
    const auto each = [&](auto more) {
#pragma GCC ivdep
      for (std::int64_t j = 0; j < columns_; ++j) {
        const float d = dy[j], normal = (x[j] - mean) * inverse;
        dscale[j] += d * normal;
        doffset[j] += d;
        dx[j] = d * scale[j] * inverse - shift - slope * normal + more(j);
      }
    };
    if (inputs_ % 2 == 0) {
      const float* dsum = row_of(c.in(5), row);
      each([dsum](std::int64_t j) { return dsum[j]; });
    } else {
      each([](std::int64_t) { return 0.f; });
    }
  }

  std::int64_t columns_;
  std::size_t inputs_;
  ColumnSums sums_;
  std::vector<float> both_;
};

Shape rows_of(Shape shape) {
  shape.erase(shape.rank() - 1);
  return shape;
}

void check_columns(const Inference& c, std::size_t x, std::size_t i) {
  c.expect_float(i);
  c.expect_rank(i, 1);
  if (!compatible(c.shape(i), Shape{c.shape(x)[-1]})) {
    c.refuse("input " + std::to_string(i) + " must have one element per column of input " + std::to_string(x));
  }
}

std::vector<Signature> infer_forward(const Inference& c, bool residual) {
  c.expect_inputs(residual ? 4 : 3);
  c.expect_float(0);
  if (c.shape(0).rank() == 0) c.refuse("input 0 must have at least one dimension");
  if (residual) c.expect_float(1);
  const Shape shape = residual ? c.expect_same_shape(0, 1) : c.shape(0);
  check_columns(c, 0, residual ? 2 : 1);
  check_columns(c, 0, residual ? 3 : 2);
  const double epsilon = c.attrs.get<double>("epsilon");
  if (!(epsilon > 0)) c.refuse("epsilon is " + std::to_string(epsilon) + ", it must be above 0");
  const Signature whole{DType::float32, shape}, row{DType::float32, rows_of(shape)};
  std::vector<Signature> result{whole, row, row};
  if (residual) result.push_back(whole);
  return result;
}

std::vector<Signature> infer_grad(const Inference& c) {
  if (c.inputs() < 5 || c.inputs() > 8) c.refuse("takes 5 to 8 inputs, got " + std::to_string(c.inputs()));
  c.expect_float(0);
  c.expect_float(1);
  const Shape shape = c.expect_same_shape(0, 1);
  if (shape.rank() == 0) c.refuse("input 0 must have at least one dimension");
  check_columns(c, 1, 2);
  for (std::size_t i = 3; i < c.inputs(); ++i) {
    c.expect_float(i);
    const bool sum = i == 5 && c.inputs() % 2 == 0;
    if (!compatible(c.shape(i), sum ? shape : rows_of(shape))) c.refuse("input " + std::to_string(i) + " has another shape");
  }
  const Signature column{DType::float32, Shape{shape[-1]}};
  return {{DType::float32, shape}, column, column};
}

Node backward(const Backward& b, Value x, Value scale, bool residual) {
  std::vector<Value> inputs{b.dy(0), x, scale, b.y(1), b.y(2)};
  if (residual && b.has_dy(3)) inputs.push_back(b.dy(3));
  if (b.has_dy(1) || b.has_dy(2)) inputs.insert(inputs.end(), {b.dy(1), b.dy(2)});
  return b.graph.add("LayerNormGrad", inputs);
}

ExampleInput random(const Shape& shape) { return {.shape = shape}; }

std::vector<Example> examples(bool residual) {
  std::vector<Example> list;
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 37}, Shape{4, 16}, Shape{0, 4}, Shape{8}}) {
    const Shape columns{shape[-1]};
    std::vector<ExampleInput> in{{.shape = shape, .low = -2, .high = 3}};
    if (residual) in.push_back(random(shape));
    in.insert(in.end(), {random(columns), random(columns)});
    list.push_back({.in = in, .attrs = {{"epsilon", 1e-2}}});
  }
  return list;
}

const Registered<Op> layer_norm_op{
    "LayerNorm",
    {.infer = [](const Inference& c) { return infer_forward(c, false); },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       const Node d = backward(b, b.x(0), b.x(1), false);
       return {d[0], d[1], d[2]};
     },
     .examples = examples(false),
     .reuse = {{.output = 0, .input = 0}}}};
const RegisteredKernel layer_norm_kernel{"LayerNorm", "CPU", make_kernel<LayerNormKernel>};

const Registered<Op> residual_op{
    "ResidualLayerNorm",
    {.infer = [](const Inference& c) { return infer_forward(c, true); },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       const Node d = backward(b, b.y(3), b.x(2), true);
       return {d[0], d[0], d[1], d[2]};
     },
     .examples = examples(true),
     .reuse = {{.output = 3, .input = 0}, {.output = 3, .input = 1}}}};
const RegisteredKernel residual_kernel{"ResidualLayerNorm", "CPU", make_kernel<LayerNormKernel>};

/// A row without variance but for ε: x̂ = (−1, 1), r = 1 / √(1 + 3) of x = (1, 3).
Example grad_example(std::vector<ExampleInput> more, std::vector<double> dx) {
  Example example{.in = {{.shape = {1, 2}, .values = {4, 8}}, {.shape = {1, 2}, .values = {1, 3}}, {.shape = {2}, .values = {1, 2}},
                         {.shape = {1}, .values = {2}}, {.shape = {1}, .values = {0.5}}},
                  .expected = {std::move(dx), {-2, 4}, {4, 8}}};
  example.in.insert(example.in.end(), more.begin(), more.end());
  return example;
}

// g = (4, 16), ⟨g⟩ = 10, x̂ = (−½, ½), ⟨g x̂⟩ = 3: dx = ½ (4 − 10 + 1.5, 16 − 10 − 1.5).
const Registered<Op> grad_op{
    "LayerNormGrad",
    {.infer = infer_grad,
     .examples = {grad_example({}, {-2.25, 2.25}),
                  grad_example({{.shape = {1, 2}, .values = {1, -1}}}, {-1.25, 1.25}),
                  grad_example({{.shape = {1}, .values = {6}}, {.shape = {1}, .values = {8}}}, {1.25, 4.75})},
     .reuse = {{.output = 0, .input = 0}}}};
const RegisteredKernel grad_kernel{"LayerNormGrad", "CPU", make_kernel<LayerNormGradKernel>};

}  // namespace
}  // namespace cohort
