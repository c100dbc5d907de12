// Softmax over the last axis and the cross-entropy of its result. The row's maximum is taken off first, so that nothing
// overflows and at least one exponential is 1.
#include <cmath>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/tensor/vector_math.hpp"
#include "ops/lanes.hpp"

namespace cohort {
namespace {

/// f(row) for all rows of `columns` elements, shared out over the pool.
template <class F>
void for_rows(KernelContext& c, std::int64_t rows, std::int64_t columns, F f) {
  c.pool().parallel_for(rows, std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, columns)),
                        [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) f(row);
  });
}

float largest(const float* x, std::int64_t n) {
  return join_lanes<MaxOf>(n, [x](std::int64_t i) { return x[i]; });
}

/// Σ exp(x − largest).
float exp_sum(const float* x, std::int64_t n, float most) {
  return static_cast<float>(join_lanes<SumOf>(n, [x, most](std::int64_t i) { return vec::exp(x[i] - most); }));
}

void run_softmax(KernelContext& c) {
  const std::int64_t n = c.in(0).columns();
  const float* in = c.in(0).data<float>();
  float* out = c.out().data<float>();
  for_rows(c, c.in(0).rows(), n, [=](std::int64_t row) {
    const float* x = in + row * n;
    float* y = out + row * n;
    const float most = largest(x, n);
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) y[i] = vec::exp(x[i] - most);
    const float scale = 1.f / static_cast<float>(join_lanes<SumOf>(n, [y](std::int64_t i) { return y[i]; }));
    for (std::int64_t i = 0; i < n; ++i) y[i] *= scale;
  });
}

void run_log_softmax(KernelContext& c) {
  const std::int64_t n = c.in(0).columns();
  const float* in = c.in(0).data<float>();
  float* out = c.out().data<float>();
  for_rows(c, c.in(0).rows(), n, [=](std::int64_t row) {
    const float* x = in + row * n;
    const float most = largest(x, n), log_sum = std::log(exp_sum(x, n, most));
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) out[row * n + i] = (x[i] - most) - log_sum;
  });
}

/// dx = y (dy − Σ dy y).
void run_softmax_grad(KernelContext& c) {
  const std::int64_t n = c.in(0).columns();
  const float *dy = c.in(0).data<float>(), *y = c.in(1).data<float>();
  float* dx = c.out().data<float>();
  for_rows(c, c.in(0).rows(), n, [=](std::int64_t row) {
    const std::int64_t at = row * n;
    const auto dot = static_cast<float>(join_lanes<SumOf>(n, [=](std::int64_t i) { return dy[at + i] * y[at + i]; }));
#pragma GCC ivdep
    for (std::int64_t i = at; i < at + n; ++i) dx[i] = y[i] * (dy[i] - dot);
  });
}

/// dx = dy − exp(y) Σ dy.
void run_log_softmax_grad(KernelContext& c) {
  const std::int64_t n = c.in(0).columns();
  const float *dy = c.in(0).data<float>(), *y = c.in(1).data<float>();
  float* dx = c.out().data<float>();
  for_rows(c, c.in(0).rows(), n, [=](std::int64_t row) {
    const std::int64_t at = row * n;
    const auto total = static_cast<float>(join_lanes<SumOf>(n, [=](std::int64_t i) { return dy[at + i]; }));
#pragma GCC ivdep
    for (std::int64_t i = at; i < at + n; ++i) dx[i] = dy[i] - vec::exp(y[i]) * total;
  });
}

std::vector<Signature> infer_softmax(const Inference& c) {
  c.expect_inputs(1);
  c.expect_float(0);
  if (c.shape(0).rank() == 0) c.refuse("input 0 must have at least one dimension");
  return {c.in(0)};
}

std::vector<Example> rows(double low, double high) {
  std::vector<Example> examples;
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 37}, Shape{7}, Shape{4, 1}, Shape{0, 3}}) {
    examples.push_back({.in = {{.shape = shape, .low = low, .high = high}}});
  }
  return examples;
}

const std::vector<Reuse> kInPlace{{.output = 0, .input = 0}};

const Registered<Op> softmax_op{
    "Softmax",
    {.infer = infer_softmax,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("SoftmaxGrad", {b.dy(), b.y()})};
     },
     .examples = rows(-4, 4),
     .reuse = kInPlace}};
const RegisteredKernel softmax_kernel{"Softmax", "CPU", stateless(run_softmax)};

const Registered<Op> softmax_grad_op{
    "SoftmaxGrad", {.infer = same_as_both,
                    .gradient = [](const Backward& b) -> std::vector<Value> {
                      const Value u = b.dy(), dy = b.x(0), y = b.x(1);
                      const Value by_y = u * (dy - sum(dy * y, {-1}, true)) - dy * sum(u * y, {-1}, true);
                      return {b.graph.add("SoftmaxGrad", {u, y}), by_y};
                    },
                    .examples = {{.in = {{.shape = {3, 5}}, {.shape = {3, 5}, .low = 0.1}}}},
                    .reuse = kInPlace}};
const RegisteredKernel softmax_grad_kernel{"SoftmaxGrad", "CPU", stateless(run_softmax_grad)};

const Registered<Op> log_softmax_op{
    "LogSoftmax",
    {.infer = infer_softmax,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("LogSoftmaxGrad", {b.dy(), b.y()})};
     },
     .examples = rows(-4, 4),
     .reuse = kInPlace}};
const RegisteredKernel log_softmax_kernel{"LogSoftmax", "CPU", stateless(run_log_softmax)};

const Registered<Op> log_softmax_grad_op{
    "LogSoftmaxGrad", {.infer = same_as_both,
                       .gradient = [](const Backward& b) -> std::vector<Value> {
                         const Value u = b.dy(), p = exp(b.x(1));
                         return {u - sum(u * p, {-1}, true), -(u * p * sum(b.x(0), {-1}, true))};
                       },
                       .examples = {{.in = {{.shape = {3, 5}}, {.shape = {3, 5}, .low = -3, .high = -0.2}}}},
                       .reuse = kInPlace}};
const RegisteredKernel log_softmax_grad_kernel{"LogSoftmaxGrad", "CPU", stateless(run_log_softmax_grad)};

// Cross-entropy of softmax(logits) against q = (1 − s) onehot(label) + s / classes (Szegedy et al. 2016, section 7).

class CrossEntropyKernel : public Kernel {
 public:
  explicit CrossEntropyKernel(const NodeInfo& info)
      : name_(info.name), smoothing_(static_cast<float>(info.attrs.get("label_smoothing", 0.0))) {}

 protected:
  /// Error out_of_range with the first bad label, its row and what would be right.
  void check_labels(const Tensor& labels, std::int64_t classes) const {
    const auto* label = labels.data<std::int32_t>();
    for (std::int64_t row = 0, n = labels.elements(); row < n; ++row) {
      if (label[row] >= 0 && label[row] < classes) continue;
      fail(Code::out_of_range, "'" + name_ + "': label " + std::to_string(label[row]) + " in row " + std::to_string(row) +
                                   " is not one of the classes 0 to " + std::to_string(classes - 1));
    }
  }

  std::string name_;
  float smoothing_;
};

class LossKernel final : public CrossEntropyKernel {
 public:
  using CrossEntropyKernel::CrossEntropyKernel;

  void run(KernelContext& c) override {
    const std::int64_t n = c.in(0).columns();
    check_labels(c.in(1), n);
    const float* logits = c.in(0).data<float>();
    const auto* label = c.in(1).data<std::int32_t>();
    float* loss = c.out().data<float>();
    for_rows(c, c.in(0).rows(), n, [&, this](std::int64_t row) {
      const float* x = logits + row * n;
      const float most = largest(x, n), log_sum = std::log(exp_sum(x, n, most));
      float expected = x[label[row]] - most;                     // Σ q (x − largest)
      if (smoothing_ != 0.f) {
        const auto total = static_cast<float>(join_lanes<SumOf>(n, [=](std::int64_t i) { return x[i] - most; }));
        expected = (1.f - smoothing_) * expected + smoothing_ / static_cast<float>(n) * total;
      }
      loss[row] = log_sum - expected;
    });
  }
};

/// dlogits = dy (softmax(logits) − q).
class LossGradKernel final : public CrossEntropyKernel {
 public:
  using CrossEntropyKernel::CrossEntropyKernel;

  void run(KernelContext& c) override {
    const std::int64_t n = c.in(1).columns();
    check_labels(c.in(2), n);
    const float *dy = c.in(0).data<float>(), *logits = c.in(1).data<float>();
    const auto* label = c.in(2).data<std::int32_t>();
    float* out = c.out().data<float>();
    for_rows(c, c.in(1).rows(), n, [&, this](std::int64_t row) {
      const float* x = logits + row * n;
      float* dx = out + row * n;
      const float most = largest(x, n);
#pragma GCC ivdep
      for (std::int64_t i = 0; i < n; ++i) dx[i] = vec::exp(x[i] - most);
      const float scale = dy[row] / static_cast<float>(join_lanes<SumOf>(n, [dx](std::int64_t i) { return dx[i]; }));
      const float everywhere = dy[row] * (smoothing_ / static_cast<float>(n));
      for (std::int64_t i = 0; i < n; ++i) dx[i] = dx[i] * scale - everywhere;
      dx[label[row]] -= dy[row] * (1.f - smoothing_);
    });
  }
};

/// Checks logits and labels at inputs `i` and `i + 1`; returns the shape of one number per row.
Shape check_loss(const Inference& c, std::size_t i) {
  c.expect_float(i);
  c.expect_dtype(i + 1, DType::int32);
  Shape rows = c.shape(i);
  if (rows.rank() == 0) c.refuse("the logits must have a dimension of classes");
  rows.erase(rows.rank() - 1);
  if (!compatible(rows, c.shape(i + 1))) c.refuse("the labels must have the shape of the logits without the last dimension");
  const double smoothing = c.attrs.get("label_smoothing", 0.0);
  if (!(smoothing >= 0 && smoothing < 1)) c.refuse("label_smoothing " + std::to_string(smoothing) + " is not in [0, 1)");
  for (std::int64_t d = 0; d < static_cast<std::int64_t>(rows.rank()); ++d) {
    if (rows[d] == Shape::kUnknown) rows.set(d, c.shape(i + 1)[d]);
  }
  return rows;
}

Example loss_example(const Shape& logits, double smoothing, bool backward = false) {
  Shape rows = logits;
  rows.erase(rows.rank() - 1);
  Example example{.in = {{.shape = logits, .low = -4, .high = 4},
                         {.shape = rows, .dtype = DType::int32, .low = 0, .high = static_cast<double>(logits[-1])}},
                  .attrs = {{"label_smoothing", smoothing}}};
  if (backward) example.in.insert(example.in.begin(), {.shape = rows});
  return example;
}

const Registered<Op> loss_op{
    "SoftmaxCrossEntropy",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(2);
       return {{DType::float32, check_loss(c, 0)}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("SoftmaxCrossEntropyGrad", {b.dy(), b.x(0), b.x(1)}, b.attrs), {}};
     },
     .examples = {loss_example({4, 10}, 0), loss_example({2, 3, 7}, 0.1), loss_example({37}, 0.25), loss_example({3, 1}, 0),
                  loss_example({0, 5}, 0.1)}}};
const RegisteredKernel loss_kernel{"SoftmaxCrossEntropy", "CPU", make_kernel<LossKernel>};

const Registered<Op> loss_grad_op{
    "SoftmaxCrossEntropyGrad",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(3);
       c.expect_float(0);
       if (!compatible(check_loss(c, 1), c.shape(0))) c.refuse("input 0 must have one number per row of the logits");
       return {c.in(1)};
     },
     .examples = {loss_example({4, 10}, 0, true), loss_example({2, 3, 7}, 0.1, true)},
     .reuse = {{.output = 0, .input = 1}}}};
const RegisteredKernel loss_grad_kernel{"SoftmaxCrossEntropyGrad", "CPU", make_kernel<LossGradKernel>};

}  // namespace
}  // namespace cohort
