// Batch normalisation over all axes but the last (Ioffe & Szegedy, "Batch normalization", 2015): y = scale · x̂ + offset,
// x̂ = (x − mean) / √(variance + ε), with the statistics of the batch (algorithm 1; gradients: section 3) or given ones.
// The variance in the formula is the biased one, Σ(x − mean)² / m. The one that is returned for the running statistics is
// the unbiased one, Σ(x − mean)² / (m − 1), as algorithm 2 asks and PyTorch does; of a single row it is 0.
// Both ops can add another image (the shortcut of a residual block) and apply relu in the same pass. With "over_replicas"
// the sums go over the batches of all replicas, so that the statistics are those of the whole batch.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <type_traits>
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

bool flag(const Attrs& attrs, std::string_view name) { return attrs.get(name, false); }

/// A 4th input, if there is one, is added before the activation.
std::vector<Signature> infer_training(const Inference& c) {
  if (c.inputs() != 4) c.expect_inputs(3);
  expect_channels(c, 0, 1, 2);
  if (c.inputs() == 4) (void)c.expect_same_shape(0, 3);
  check_epsilon(c);
  const Signature channels{DType::float32, Shape{c.shape(0)[-1]}};
  return {c.in(0), channels, channels};
}

/// Inputs dy, x, scale, mean and variance as the forward op returned them; y if "relu"; the gradients of mean and variance
/// if "statistics". Results dx, dscale, doffset, and the gradient of what was added if "added".
std::vector<Signature> infer_training_grad(const Inference& c) {
  const std::size_t relu = flag(c.attrs, "relu") ? 1 : 0;
  if (relu == 0 && flag(c.attrs, "added")) c.refuse("without relu the gradient of what was added is dy itself");
  c.expect_inputs(5 + relu + (flag(c.attrs, "statistics") ? 2 : 0));
  c.expect_float(0);
  const Shape shape = c.expect_same_shape(0, 1);
  expect_channels(c, 1, 2, 4);
  if (relu == 1) (void)c.expect_same_shape(1, 5);
  if (c.inputs() > 5 + relu) expect_channels(c, 1, 5 + relu, c.inputs() - 1);
  const Signature image{DType::float32, shape}, channels{DType::float32, Shape{shape[-1]}};
  if (!flag(c.attrs, "added")) return {image, channels, channels};
  return {image, channels, channels, image};
}

std::vector<Signature> infer_inference(const Inference& c) {
  if (c.inputs() != 6) c.expect_inputs(5);
  expect_channels(c, 0, 1, 4);
  if (c.inputs() == 6) (void)c.expect_same_shape(0, 5);
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

constexpr std::int64_t kWide = 64;        // channels from which a row is long enough for loops of its own
constexpr std::int64_t kMostWidth = 2 * kWide;

/// What the kernels share: the image as a matrix of one column per channel. Where channels are few, loops go over several
/// rows at once, with coefficients that repeat.
class ChannelsKernel : public Kernel {
 protected:
  ChannelsKernel(const NodeInfo& info, const Shape& x)
      : rows_(x.rows()), channels_(x.columns()), epsilon_(static_cast<float>(info.attrs.get<double>("epsilon"))),
        width_(channels_ == 0 || channels_ >= kWide ? channels_ : channels_ * ((kWide + channels_ - 1) / channels_)) {}

  /// Coefficients for a run of `width_` elements.
  [[nodiscard]] std::vector<float> coefficients() const { return std::vector<float>(static_cast<std::size_t>(width_)); }
  /// Repeats the first of each channel.
  void repeat(std::vector<float>& values) const {
    for (std::int64_t k = channels_; k < width_; ++k) values[k] = values[k - channels_];
  }

  /// f(first element, number of elements) for runs that begin with a row, on several threads.
  template <class F>
  void for_runs(ThreadPool& pool, F f) const {
    for_rows(pool, [&](std::int64_t at, std::int64_t end) {
      for (; at < end; at += width_) f(at, std::min(width_, end - at));
    });
  }

  /// f(first element, end) for whole rows, on several threads.
  template <class F>
  void for_rows(ThreadPool& pool, F f) const {
    constexpr std::int64_t kGrain = 16384;   // elements per thread below which waking a thread costs more
    pool.parallel_for(rows_, kGrain / std::max<std::int64_t>(channels_, 1) + 1,
                      [&](std::int64_t begin, std::int64_t end) { f(begin * channels_, end * channels_); });
  }

  /// term(first element, number, sums) adds what the elements of a run give to kSums sums of `width_` each.
  template <int kSums, class Term>
  void sum_columns(ThreadPool& pool, ColumnSums& columns, Term term, float* out) const {
    columns.run(pool, [&](std::int64_t begin, std::int64_t end, float* sums) {
      std::array<float, kSums * kMostWidth> wide;
      if (channels_ < kWide) wide.fill(0);
      float* into = channels_ < kWide ? wide.data() : sums;
      for (std::int64_t at = begin * channels_; at < end * channels_; at += width_) {
        term(at, std::min(width_, end * channels_ - at), into);
      }
      if (channels_ >= kWide) return;
      for (std::int64_t s = 0; s < kSums; ++s) {
        for (std::int64_t k = 0; k < width_; ++k) sums[s * channels_ + k % channels_] += wide[s * width_ + k];
      }
    }, out);
  }

  /// dy where relu let something through. Both are loaded in any case, or the loop would not be vectorised.
  template <bool kRelu>
  static float passed(const float* dy, const float* y, std::int64_t i) {
    const float d = dy[i];
    if constexpr (kRelu) return y[i] <= 0.f ? 0.f : d;
    else return d;
  }

  /// sums[0 … c) := Σ dz, sums[c … 2c) := Σ dz · (x − mean), where dz is dy, or 0 where a relu let nothing through.
  template <bool kRelu>
  void gradient_sums(ThreadPool& pool, ColumnSums& two, const float* dy, const float* y, const float* x, const float* mean,
                     float* sums) const {
    sum_columns<2>(pool, two, [&](std::int64_t at, std::int64_t n, float* __restrict plain) {
      float* __restrict with_x = plain + width_;
      for (std::int64_t k = 0; k < n; ++k) {
        const float dz = passed<kRelu>(dy, y, at + k);
        plain[k] += dz;
        with_x[k] += dz * (x[at + k] - mean[k]);
      }
    }, sums);
  }

  /// y := (x − mean) · factor + shift per channel, + added where that is not null, then relu. The mean is subtracted first: as
  /// x · factor + (shift − mean · factor), with one product less, the result would be a small difference of large numbers
  /// where the mean is large, and have lost what they were rounded by. Two runs at a time share their coefficients' loads.
  void normalise(ThreadPool& pool, const float* x, const float* mean, const float* factor, const float* shift, const float* added,
                 bool relu, float* y) const {
    const auto apply = [&](auto with_added, auto with_relu) {
      const auto one = [=](std::int64_t i, float m, float a, float b) {
        float z = (x[i] - m) * a + b;
        if constexpr (with_added.value) z += added[i];
        y[i] = with_relu.value && z <= 0.f ? 0.f : z;
      };
      for_rows(pool, [&, width = width_](std::int64_t at, std::int64_t end) {
        for (; at < end && at + 2 * width <= end; at += 2 * width) {      // at = end where there are no channels
#pragma GCC ivdep   // y may lie where x or what is added lies, but nothing is read that another element writes
          for (std::int64_t k = 0; k < width; ++k) {
            const float m = mean[k], a = factor[k], b = shift[k];
            one(at + k, m, a, b);
            one(at + width + k, m, a, b);
          }
        }
        for (; at < end; at += width) {
          const std::int64_t n = std::min(width, end - at);
#pragma GCC ivdep
          for (std::int64_t k = 0; k < n; ++k) one(at + k, mean[k], factor[k], shift[k]);
        }
      });
    };
    using Yes = std::true_type;
    using No = std::false_type;
    if (added != nullptr) relu ? apply(Yes{}, Yes{}) : apply(Yes{}, No{});
    else relu ? apply(No{}, Yes{}) : apply(No{}, No{});
  }

  std::int64_t rows_, channels_;
  float epsilon_;
  std::int64_t width_;
};

class BatchNormTrainingKernel final : public ChannelsKernel {
 public:
  explicit BatchNormTrainingKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[0].shape), relu_(flag(info.attrs, "relu")), joint_(flag(info.attrs, "over_replicas")),
        sums_(info, rows_, channels_), two_(info, rows_, 2 * channels_), moments_(2 * static_cast<std::size_t>(channels_) + 1),
        mean_(coefficients()), factor_(coefficients()), shift_(coefficients()) {}

  void run(KernelContext& c) override {
    const float *x = c.in(0).data<float>(), *scale = c.in(1).data<float>(), *offset = c.in(2).data<float>();
    float *mean = c.out(1).data<float>(), *variance = c.out(2).data<float>();
    const float m = statistics(c, x);
    const float *late = moments_.data(), *squares = late + channels_;
    for (std::int64_t k = 0; k < channels_; ++k) {
      // Squares beyond all numbers: divided by them the channel would look constant, and the running variance would be
      // infinite for ever. No number at all is noticed.
      const float sum = std::isinf(squares[k]) ? std::numeric_limits<float>::quiet_NaN()
                                               : std::max(squares[k] - late[k] * late[k] * m, 0.f);   // NaN stays
      factor_[k] = scale[k] / std::sqrt(sum / m + epsilon_);
      shift_[k] = offset[k] - late[k] * factor_[k];
      mean[k] = mean_[k] + late[k];
      variance[k] = m == 1.f ? 0.f : sum / (m - 1);
      if (m == 0.f) variance[k] = std::numeric_limits<float>::quiet_NaN();   // of no rows, like their mean
    }
    repeat(factor_);
    repeat(shift_);
    const float* added = c.inputs() == 4 ? c.in(3).data<float>() : nullptr;
    normalise(c.pool(), x, mean_.data(), factor_.data(), shift_.data(), added, relu_, c.out(0).data<float>());
  }

 private:
  /// Leaves the mean of each channel in mean_ and, in moments_, by how much it falls short of the true one, and
  /// Σ (x − mean)²: a float near a large mean, and the sum of large numbers that it is made of, are off by more than a
  /// small deviation bears. Returns the number of rows.
  float statistics(KernelContext& c, const float* x) {
    sum_columns<1>(c.pool(), sums_, [&](std::int64_t at, std::int64_t n, float* __restrict sums) {
      for (std::int64_t k = 0; k < n; ++k) sums[k] += x[at + k];
    }, moments_.data());
    moments_[channels_] = static_cast<float>(rows_);
    if (joint_) c.sum_over_replicas({moments_.data(), static_cast<std::size_t>(channels_) + 1});
    const float m = moments_[channels_];
    for (std::int64_t k = 0; k < channels_; ++k) mean_[k] = moments_[k] / m;
    repeat(mean_);
    sum_columns<2>(c.pool(), two_, [&](std::int64_t at, std::int64_t n, float* __restrict plain) {
      float* __restrict squares = plain + width_;
      for (std::int64_t k = 0; k < n; ++k) {
        const float d = x[at + k] - mean_[k];
        plain[k] += d;
        squares[k] += d * d;
      }
    }, moments_.data());
    if (joint_) c.sum_over_replicas({moments_.data(), 2 * static_cast<std::size_t>(channels_)});
    for (std::int64_t k = 0; k < channels_; ++k) moments_[k] /= m;
    return m;
  }

  bool relu_, joint_;
  ColumnSums sums_, two_;
  std::vector<float> moments_, mean_, factor_, shift_;
};

class BatchNormTrainingGradKernel final : public ChannelsKernel {
 public:
  explicit BatchNormTrainingGradKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[1].shape), relu_(flag(info.attrs, "relu")), joint_(flag(info.attrs, "over_replicas")),
        statistics_(flag(info.attrs, "statistics")), two_(info, rows_, 2 * channels_),
        sums_(static_cast<std::size_t>((statistics_ ? 4 : 2) * channels_ + 1)), mean_(coefficients()), factor_(coefficients()),
        slope_(coefficients()), shift_(coefficients()) {}

  void run(KernelContext& c) override {
    const float *dy = c.in(0).data<float>(), *x = c.in(1).data<float>(), *mean = c.in(3).data<float>();
    const float* y = relu_ ? c.in(5).data<float>() : nullptr;
    std::copy_n(mean, channels_, mean_.data());
    repeat(mean_);
    if (relu_) gradient_sums<true>(c.pool(), two_, dy, y, x, mean_.data(), sums_.data());
    else gradient_sums<false>(c.pool(), two_, dy, y, x, mean_.data(), sums_.data());
    find_coefficients(c);
    float* dx = c.out(0).data<float>();
    float* added = c.outputs() == 4 ? c.out(3).data<float>() : nullptr;
    if (added != nullptr) spread<true, true>(c.pool(), dy, y, x, dx, added);      // without relu it is dy itself
    else if (relu_) spread<true, false>(c.pool(), dy, y, x, dx, nullptr);
    else spread<false, false>(c.pool(), dy, y, x, dx, nullptr);
  }

 private:
  /// dscale and doffset, which are this replica's, and with the sums of all replicas
  /// dx = factor · (dz − Σdz / m − x̂ Σ(dz x̂) / m) = factor · dz + slope · (x − mean) + shift.
  void find_coefficients(KernelContext& c) {
    const float *scale = c.in(2).data<float>(), *variance = c.in(4).data<float>();
    float *dscale = c.out(1).data<float>(), *doffset = c.out(2).data<float>();
    const float *plain = sums_.data(), *with_x = plain + channels_;
    std::copy_n(plain, channels_, doffset);
    std::copy_n(with_x, channels_, dscale);
    const std::size_t used = relu_ ? 6 : 5;
    if (statistics_) {
      std::copy_n(c.in(used).data<float>(), channels_, sums_.data() + 2 * channels_);
      std::copy_n(c.in(used + 1).data<float>(), channels_, sums_.data() + 3 * channels_);
    }
    sums_.back() = static_cast<float>(rows_);
    if (joint_) c.sum_over_replicas(sums_);
    const float m = sums_.back();
    for (std::int64_t k = 0; k < channels_; ++k) {
      if (m == 0.f) dscale[k] = doffset[k] = 0.f;      // no rows: they change nothing
      if (m == 0.f) continue;
      const float inverse = 1.f / std::sqrt(variance[k] * (m - 1) / m + epsilon_);
      dscale[k] *= inverse;
      factor_[k] = scale[k] * inverse;
      slope_[k] = -factor_[k] * inverse * inverse * with_x[k] / m;
      shift_[k] = -factor_[k] * plain[k] / m;
      if (statistics_) {               // the statistics are used themselves
        shift_[k] += plain[k + 2 * channels_] / m;
        slope_[k] += m > 1 ? 2 * plain[k + 3 * channels_] / (m - 1) : 0.f;
      }
    }
    for (std::vector<float>* coefficient : {&factor_, &slope_, &shift_}) repeat(*coefficient);
  }

  template <bool kRelu, bool kAdded>
  void spread(ThreadPool& pool, const float* dy, const float* y, const float* x, float* dx, float* added) const {
    const float *mean = mean_.data(), *factor = factor_.data(), *slope = slope_.data(), *shift = shift_.data();
    for_runs(pool, [&](std::int64_t at, std::int64_t n) {
#pragma GCC ivdep   // dx and dy may be one memory, but nothing is read that another element writes
      for (std::int64_t k = 0; k < n; ++k) {
        const float dz = passed<kRelu>(dy, y, at + k);
        if constexpr (kAdded) added[at + k] = dz;
        dx[at + k] = factor[k] * dz + slope[k] * (x[at + k] - mean[k]) + shift[k];
      }
    });
  }

  bool relu_, joint_, statistics_;
  ColumnSums two_;
  std::vector<float> sums_, mean_, factor_, slope_, shift_;
};

class BatchNormInferenceKernel final : public ChannelsKernel {
 public:
  explicit BatchNormInferenceKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[0].shape), relu_(flag(info.attrs, "relu")), mean_(coefficients()), factor_(coefficients()),
        shift_(coefficients()) {}

  void run(KernelContext& c) override {
    const float *scale = c.in(1).data<float>(), *variance = c.in(4).data<float>();
    for (std::int64_t k = 0; k < channels_; ++k) factor_[k] = scale[k] / std::sqrt(variance[k] + epsilon_);
    std::copy_n(c.in(2).data<float>(), channels_, shift_.data());
    std::copy_n(c.in(3).data<float>(), channels_, mean_.data());
    for (std::vector<float>* coefficient : {&mean_, &factor_, &shift_}) repeat(*coefficient);
    const float* added = c.inputs() == 6 ? c.in(5).data<float>() : nullptr;
    normalise(c.pool(), c.in(0).data<float>(), mean_.data(), factor_.data(), shift_.data(), added, relu_, c.out().data<float>());
  }

 private:
  bool relu_;
  std::vector<float> mean_, factor_, shift_;
};

/// From dy, x, scale, mean, variance: the gradients of x, scale, offset, mean and variance.
class BatchNormInferenceGradKernel final : public ChannelsKernel {
 public:
  explicit BatchNormInferenceGradKernel(const NodeInfo& info)
      : ChannelsKernel(info, info.in[1].shape), two_(info, rows_, 2 * channels_),
        sums_(2 * static_cast<std::size_t>(channels_)), mean_(coefficients()), factor_(coefficients()) {}

  void run(KernelContext& c) override {
    const float *dy = c.in(0).data<float>(), *x = c.in(1).data<float>(), *scale = c.in(2).data<float>();
    const float* variance = c.in(4).data<float>();
    std::copy_n(c.in(3).data<float>(), channels_, mean_.data());
    repeat(mean_);
    gradient_sums<false>(c.pool(), two_, dy, nullptr, x, mean_.data(), sums_.data());
    for (std::int64_t k = 0; k < channels_; ++k) {
      const float inverse = 1.f / std::sqrt(variance[k] + epsilon_);
      const float sum = sums_[k], with_x = sums_[k + channels_];
      factor_[k] = scale[k] * inverse;
      c.out(1).data<float>()[k] = with_x * inverse;
      c.out(2).data<float>()[k] = sum;
      c.out(3).data<float>()[k] = -sum * factor_[k];
      c.out(4).data<float>()[k] = -0.5f * with_x * factor_[k] * inverse * inverse;
    }
    repeat(factor_);
    const float* factor = factor_.data();
    float* dx = c.out(0).data<float>();
    for_runs(c.pool(), [=](std::int64_t at, std::int64_t n) {
#pragma GCC ivdep   // dx and dy may be one memory, but nothing is read that another element writes
      for (std::int64_t k = 0; k < n; ++k) dx[at + k] = factor[k] * dy[at + k];
    });
  }

 private:
  ColumnSums two_;
  std::vector<float> sums_, mean_, factor_;
};

std::vector<Value> gradient_of_training(const Backward& b) {
  const bool relu = flag(b.attrs, "relu"), statistics = b.has_dy(1) || b.has_dy(2), added = b.inputs() == 4 && b.wants(3);
  std::vector<Value> inputs{b.dy(0), b.x(0), b.x(1), b.y(1), b.y(2)};
  if (relu) inputs.push_back(b.y(0));
  if (statistics) inputs.insert(inputs.end(), {b.dy(1), b.dy(2)});
  const Node d = b.graph.add("BatchNormTrainingGrad", inputs,
                             {{"epsilon", b.attrs.get<double>("epsilon")},
                              {"relu", relu},
                              {"statistics", statistics},
                              {"added", added && relu},
                              {"over_replicas", flag(b.attrs, "over_replicas")}});
  std::vector<Value> result{d[0], d[1], d[2]};
  if (b.inputs() == 4) result.push_back(!added ? Value{} : relu ? d[3] : b.dy(0));
  return result;
}

std::vector<Value> gradient_of_inference(const Backward& b) {
  const Value dz = flag(b.attrs, "relu") ? b.graph.add("ReluGrad", {b.dy(), b.y()}) : b.dy();
  const Node d = b.graph.add("BatchNormInferenceGrad", {dz, b.x(0), b.x(1), b.x(3), b.x(4)},
                             {{"epsilon", b.attrs.get<double>("epsilon")}});
  std::vector<Value> result{d[0], d[1], d[2], d[3], d[4]};
  if (b.inputs() == 6) result.push_back(dz);
  return result;
}

ExampleInput random(const Shape& shape) { return {.shape = shape}; }
ExampleInput positive(const Shape& shape) { return {.shape = shape, .low = 0.5, .high = 2}; }
const Attrs kAttrs = {{"epsilon", 1e-3}};
Attrs with_relu() { return {{"epsilon", 1e-3}, {"relu", true}}; }
/// Values so large that a finite difference does not reach the kink of relu.
ExampleInput apart(const Shape& shape) { return {.shape = shape, .low = -5, .high = 5}; }

const Registered<Op> training_op{
    "BatchNormTraining",
    {.infer = infer_training,
     .gradient = gradient_of_training,
     .examples = {{.in = {random({7, 3}), random({3}), random({3})}, .attrs = kAttrs},
                  {.in = {random({2, 3, 2, 5}), random({5}), random({5})}, .attrs = kAttrs},
                  {.in = {random({9, 70}), random({70}), random({70}), random({9, 70})}, .attrs = kAttrs},
                  {.in = {apart({8, 2}), positive({2}), random({2})}, .attrs = with_relu()},
                  {.in = {apart({4, 1, 2, 2}), positive({2}), random({2}), apart({4, 1, 2, 2})}, .attrs = with_relu()},
                  {.in = {{.shape = {1, 2}, .values = {3, -4}}, random({2}), {.shape = {2}, .values = {0.5, 0.25}}},
                   .attrs = kAttrs,
                   .expected = {{0.5, 0.25}, {3, -4}, {0, 0}}}},
     .reuse = {{.output = 0, .input = 0}, {.output = 0, .input = 3}}}};
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
                                                     .expected = {{-0.1875, 0.1875}, {0.5}, {3}}}},
                                       .reuse = {{.output = 0, .input = 0}}}};
const RegisteredKernel training_grad_kernel{"BatchNormTrainingGrad", "CPU", make_kernel<BatchNormTrainingGradKernel>};

const Registered<Op> inference_op{
    "BatchNormInference",
    {.infer = infer_inference,
     .gradient = gradient_of_inference,
     .examples = {{.in = {random({7, 3}), random({3}), random({3}), random({3}), positive({3})}, .attrs = kAttrs},
                  {.in = {random({2, 3, 2, 5}), random({5}), random({5}), random({5}), positive({5})}, .attrs = kAttrs},
                  {.in = {apart({3, 2}), positive({2}), random({2}), random({2}), positive({2}), apart({3, 2})},
                   .attrs = with_relu()},
                  {.in = {random({0, 2}), random({2}), random({2}), random({2}), positive({2})},
                   .attrs = kAttrs,
                   .expected = {{}}}},
     .reuse = {{.output = 0, .input = 0}, {.output = 0, .input = 5}}}};
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
