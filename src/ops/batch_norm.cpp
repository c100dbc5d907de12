// Batch normalisation over all axes but the last (Ioffe & Szegedy, "Batch normalization", 2015): y = scale · x̂ + offset,
// x̂ = (x − mean) / √(variance + ε), with the statistics of the batch (algorithm 1; gradients: section 3) or given ones.
// The variance in the formula is the biased one, Σ(x − mean)² / m. The one that is returned for the running statistics is
// the unbiased one, Σ(x − mean)² / (m − 1), as algorithm 2 asks and PyTorch does; of a single row it is 0.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/graph.hpp"
#include "cohort/graph/gradients.hpp"
#include "column_sums.hpp"

namespace cohort {
namespace {

void expect_channels(const Inference& c, std::size_t image, std::size_t first, std::size_t last) {
  c.expect_float(image);
  if (c.shape(image).rank() < 2) c.refuse("input " + std::to_string(image) + " must have at least 2 dimensions");
  for (std::size_t i = first; i <= last; ++i) {
    c.expect_float(i);
    if (!compatible(c.shape(i), Shape{c.shape(image)[-1]})) {
      c.refuse("input " + std::to_string(i) + " must have one element per channel of input " + std::to_string(image));
    }
  }
}

void check_epsilon(const Inference& c) {
  const double epsilon = c.attrs.get<double>("epsilon");
  if (!(epsilon > 0)) c.refuse("epsilon is " + std::to_string(epsilon) + ", it must be above 0");
}

std::vector<Signature> infer_training(const Inference& c) {
  c.expect_inputs(3);
  expect_channels(c, 0, 1, 2);
  check_epsilon(c);
  const Signature channels{DType::float32, Shape{c.shape(0)[-1]}};
  return {c.in(0), channels, channels};
}

/// Inputs dy, x, scale, mean and variance as the forward op returned them, and optionally their gradients.
std::vector<Signature> infer_training_grad(const Inference& c) {
  if (c.inputs() != 7) c.expect_inputs(5);
  c.expect_float(0);
  const Shape shape = c.expect_same_shape(0, 1);
  expect_channels(c, 1, 2, c.inputs() - 1);
  const Signature channels{DType::float32, Shape{shape[-1]}};
  return {{DType::float32, shape}, channels, channels};
}

std::vector<Signature> infer_inference(const Inference& c) {
  c.expect_inputs(5);
  expect_channels(c, 0, 1, 4);
  check_epsilon(c);
  return {c.in(0)};
}

std::vector<Signature> infer_inference_grad(const Inference& c) {
  c.expect_inputs(5);
  c.expect_float(0);
  const Shape shape = c.expect_same_shape(0, 1);
  expect_channels(c, 1, 2, 4);
  const Signature channels{DType::float32, Shape{shape[-1]}};
  return {{DType::float32, shape}, channels, channels, channels, channels};
}

/// What the kernels share: the image as a matrix of one column per channel, and scratch of a row of it.
class ChannelsKernel : public Kernel {
 protected:
  ChannelsKernel(const NodeInfo& info, const Shape& x)
      : rows_(x.rows()), channels_(x.columns()), epsilon_(static_cast<float>(info.attrs.get<double>("epsilon"))) {}

  [[nodiscard]] std::vector<float> row() const { return std::vector<float>(static_cast<std::size_t>(channels_)); }

  /// f(row begin, row end) on several threads.
  template <class F>
  void for_rows(ThreadPool& pool, F f) const {
    constexpr std::int64_t kGrain = 16384;   // elements per thread below which waking a thread costs more
    pool.parallel_for(rows_, kGrain / std::max<std::int64_t>(channels_, 1) + 1, f);
  }

  /// y := a · x + b per channel.
  void scale_and_shift(ThreadPool& pool, const float* x, const float* a, const float* b, float* y) const {
    for_rows(pool, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        for (std::int64_t k = 0; k < channels_; ++k) y[i * channels_ + k] = a[k] * x[i * channels_ + k] + b[k];
      }
    });
  }

  /// sums[0 … c) := Σ dy, sums[c … 2c) := Σ dy · (x − mean).
  void gradient_sums(ThreadPool& pool, ColumnSums& two, const float* dy, const float* x, const float* mean,
                     float* sums) const {
    two.run(pool, [&](std::int64_t begin, std::int64_t end, float* partial) {
      float* with_x = partial + channels_;
      for (std::int64_t i = begin; i < end; ++i) {
        const float *dy_row = dy + i * channels_, *x_row = x + i * channels_;
        for (std::int64_t k = 0; k < channels_; ++k) {
          partial[k] += dy_row[k];
          with_x[k] += dy_row[k] * (x_row[k] - mean[k]);
        }
      }
    }, sums);
  }

  std::int64_t rows_, channels_;
  float epsilon_;
};

class BatchNormTrainingKernel final : public ChannelsKernel {
 public:
  explicit BatchNormTrainingKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[0].shape), sums_(rows_, channels_), factor_(row()), shift_(row()) {}

  void run(KernelContext& c) override {
    const float *x = c.in(0).data<float>(), *scale = c.in(1).data<float>(), *offset = c.in(2).data<float>();
    float *mean = c.out(1).data<float>(), *variance = c.out(2).data<float>();
    const auto m = static_cast<float>(rows_);
    sums_.run(c.pool(), [&](std::int64_t begin, std::int64_t end, float* sums) {
      for (std::int64_t i = begin; i < end; ++i) {
        for (std::int64_t k = 0; k < channels_; ++k) sums[k] += x[i * channels_ + k];
      }
    }, mean);
    for (std::int64_t k = 0; k < channels_; ++k) mean[k] /= m;
    sums_.run(c.pool(), [&](std::int64_t begin, std::int64_t end, float* sums) {
      for (std::int64_t i = begin; i < end; ++i) {
        for (std::int64_t k = 0; k < channels_; ++k) {
          const float d = x[i * channels_ + k] - mean[k];
          sums[k] += d * d;
        }
      }
    }, variance);
    for (std::int64_t k = 0; k < channels_; ++k) {
      const auto at = static_cast<std::size_t>(k);
      factor_[at] = scale[k] / std::sqrt(variance[k] / m + epsilon_);
      shift_[at] = offset[k] - mean[k] * factor_[at];
      variance[k] = rows_ == 1 ? 0.f : variance[k] / (m - 1);
      if (rows_ == 0) variance[k] = std::numeric_limits<float>::quiet_NaN();   // of no rows, like their mean
    }
    scale_and_shift(c.pool(), x, factor_.data(), shift_.data(), c.out(0).data<float>());
  }

 private:
  ColumnSums sums_;
  std::vector<float> factor_, shift_;
};

class BatchNormTrainingGradKernel final : public ChannelsKernel {
 public:
  explicit BatchNormTrainingGradKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[1].shape), two_(rows_, 2 * channels_), sums_(2 * static_cast<std::size_t>(channels_)),
        factor_(row()), slope_(row()), shift_(row()) {}

  void run(KernelContext& c) override {
    const float *dy = c.in(0).data<float>(), *x = c.in(1).data<float>(), *scale = c.in(2).data<float>();
    const float *mean = c.in(3).data<float>(), *variance = c.in(4).data<float>();
    float *dx = c.out(0).data<float>(), *dscale = c.out(1).data<float>(), *doffset = c.out(2).data<float>();
    gradient_sums(c.pool(), two_, dy, x, mean, sums_.data());
    const auto m = static_cast<float>(rows_);
    for (std::int64_t k = 0; k < channels_; ++k) {
      const auto at = static_cast<std::size_t>(k);
      const float inverse = 1.f / std::sqrt(variance[k] * (m - 1) / m + epsilon_);
      doffset[k] = sums_[at];
      dscale[k] = sums_[at + factor_.size()] * inverse;
      // dx = factor · (dy − Σdy / m − x̂ Σ(dy x̂) / m) = factor · dy + slope · (x − mean) + shift
      factor_[at] = scale[k] * inverse;
      slope_[at] = -factor_[at] * inverse * dscale[k] / m;
      shift_[at] = -factor_[at] * doffset[k] / m;
      if (c.inputs() == 7) {               // the statistics are used themselves
        shift_[at] += c.in(5).data<float>()[k] / m;
        slope_[at] += rows_ > 1 ? 2 * c.in(6).data<float>()[k] / (m - 1) : 0.f;
      }
    }
    for_rows(c.pool(), [&](std::int64_t begin, std::int64_t end) {
      const float *factor = factor_.data(), *slope = slope_.data(), *shift = shift_.data();
      for (std::int64_t i = begin; i < end; ++i) {
        for (std::int64_t k = 0; k < channels_; ++k) {
          const std::int64_t at = i * channels_ + k;
          dx[at] = factor[k] * dy[at] + slope[k] * (x[at] - mean[k]) + shift[k];
        }
      }
    });
  }

 private:
  ColumnSums two_;
  std::vector<float> sums_, factor_, slope_, shift_;
};

class BatchNormInferenceKernel final : public ChannelsKernel {
 public:
  explicit BatchNormInferenceKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[0].shape), factor_(row()), shift_(row()) {}

  void run(KernelContext& c) override {
    const float *scale = c.in(1).data<float>(), *offset = c.in(2).data<float>();
    const float *mean = c.in(3).data<float>(), *variance = c.in(4).data<float>();
    for (std::int64_t k = 0; k < channels_; ++k) {
      const auto at = static_cast<std::size_t>(k);
      factor_[at] = scale[k] / std::sqrt(variance[k] + epsilon_);
      shift_[at] = offset[k] - mean[k] * factor_[at];
    }
    scale_and_shift(c.pool(), c.in(0).data<float>(), factor_.data(), shift_.data(), c.out().data<float>());
  }

 private:
  std::vector<float> factor_, shift_;
};

/// From dy, x, scale, mean, variance: the gradients of x, scale, offset, mean and variance.
class BatchNormInferenceGradKernel final : public ChannelsKernel {
 public:
  explicit BatchNormInferenceGradKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[1].shape),
        two_(rows_, 2 * channels_),
        sums_(2 * static_cast<std::size_t>(channels_)),
        factor_(row()),
        zero_(row()) {}

  void run(KernelContext& c) override {
    const float *dy = c.in(0).data<float>(), *x = c.in(1).data<float>(), *scale = c.in(2).data<float>();
    const float *mean = c.in(3).data<float>(), *variance = c.in(4).data<float>();
    gradient_sums(c.pool(), two_, dy, x, mean, sums_.data());
    for (std::int64_t k = 0; k < channels_; ++k) {
      const auto at = static_cast<std::size_t>(k);
      const float inverse = 1.f / std::sqrt(variance[k] + epsilon_);
      const float sum = sums_[at], with_x = sums_[at + factor_.size()];
      factor_[at] = scale[k] * inverse;
      c.out(1).data<float>()[k] = with_x * inverse;
      c.out(2).data<float>()[k] = sum;
      c.out(3).data<float>()[k] = -sum * factor_[at];
      c.out(4).data<float>()[k] = -0.5f * with_x * factor_[at] * inverse * inverse;
    }
    scale_and_shift(c.pool(), dy, factor_.data(), zero_.data(), c.out(0).data<float>());
  }

 private:
  ColumnSums two_;
  std::vector<float> sums_, factor_, zero_;
};

std::vector<Value> gradient_of_training(const Backward& b) {
  std::vector<Value> inputs{b.dy(0), b.x(0), b.x(1), b.y(1), b.y(2)};
  if (b.has_dy(1) || b.has_dy(2)) inputs.insert(inputs.end(), {b.dy(1), b.dy(2)});
  const Node d = b.graph.add("BatchNormTrainingGrad", inputs, {{"epsilon", b.attrs.get<double>("epsilon")}});
  return {d[0], d[1], d[2]};
}

std::vector<Value> gradient_of_inference(const Backward& b) {
  const Node d = b.graph.add("BatchNormInferenceGrad", {b.dy(), b.x(0), b.x(1), b.x(3), b.x(4)},
                             {{"epsilon", b.attrs.get<double>("epsilon")}});
  return {d[0], d[1], d[2], d[3], d[4]};
}

ExampleInput random(const Shape& shape) { return {.shape = shape}; }
ExampleInput positive(const Shape& shape) { return {.shape = shape, .low = 0.5, .high = 2}; }
const Attrs kAttrs = {{"epsilon", 1e-3}};

const Registered<Op> training_op{
    "BatchNormTraining",
    {.infer = infer_training,
     .gradient = gradient_of_training,
     .examples = {{.in = {random({7, 3}), random({3}), random({3})}, .attrs = kAttrs},
                  {.in = {random({2, 3, 2, 5}), random({5}), random({5})}, .attrs = kAttrs},
                  {.in = {{.shape = {1, 2}, .values = {3, -4}}, random({2}), {.shape = {2}, .values = {0.5, 0.25}}},
                   .attrs = kAttrs,
                   .expected = {{0.5, 0.25}, {3, -4}, {0, 0}}}}}};
const RegisteredKernel training_kernel{"BatchNormTraining", "CPU", make_kernel<BatchNormTrainingKernel>};

// With scale 1, ε = 3 and x = ±1 (variance 1) 1/σ is 1/2: dx = (dy − 1.5 − x̂ · Σ(dy x̂) / 2) / 2, x̂ = ±1/2.
const Registered<Op> training_grad_op{"BatchNormTrainingGrad",
                                      {.infer = infer_training_grad,
                                       .examples = {{.in = {{.shape = {2, 1}, .values = {1, 2}},
                                                            {.shape = {2, 1}, .values = {-1, 1}},
                                                            {.shape = {1}, .values = {1}},
                                                            {.shape = {1}, .values = {0}},
                                                            {.shape = {1}, .values = {2}}},
                                                     .attrs = {{"epsilon", 3.0}},
                                                     .expected = {{-0.1875, 0.1875}, {0.5}, {3}}}}}};
const RegisteredKernel training_grad_kernel{"BatchNormTrainingGrad", "CPU", make_kernel<BatchNormTrainingGradKernel>};

const Registered<Op> inference_op{
    "BatchNormInference",
    {.infer = infer_inference,
     .gradient = gradient_of_inference,
     .examples = {{.in = {random({7, 3}), random({3}), random({3}), random({3}), positive({3})}, .attrs = kAttrs},
                  {.in = {random({2, 3, 2, 5}), random({5}), random({5}), random({5}), positive({5})}, .attrs = kAttrs},
                  {.in = {random({0, 2}), random({2}), random({2}), random({2}), positive({2})},
                   .attrs = kAttrs,
                   .expected = {{}}}}}};
const RegisteredKernel inference_kernel{"BatchNormInference", "CPU", make_kernel<BatchNormInferenceKernel>};

const Registered<Op> inference_grad_op{"BatchNormInferenceGrad",
                                       {.infer = infer_inference_grad,
                                        .examples = {{.in = {{.shape = {2, 1}, .values = {1, 2}},
                                                             {.shape = {2, 1}, .values = {-1, 3}},
                                                             {.shape = {1}, .values = {2}},
                                                             {.shape = {1}, .values = {1}},
                                                             {.shape = {1}, .values = {1}}},
                                                      .attrs = {{"epsilon", 3.0}},
                                                      .expected = {{1, 2}, {1}, {3}, {-3}, {-0.25}}}}}};
const RegisteredKernel inference_grad_kernel{"BatchNormInferenceGrad", "CPU", make_kernel<BatchNormInferenceGradKernel>};

}  // namespace
}  // namespace cohort
