// Group normalisation (Wu & He, "Group normalization", 2018, eq. 1–4): each sample's channels, in `groups` equal groups, are
// normalised over the group's channels and all pixels: y = scale · x̂ + offset, x̂ = (x − mean) / √(variance + ε), the
// biased variance. Statistics are those of one sample, so batches, ranks and evaluation make no difference. The backward op
// takes them anew from x: two passes over an image that is in the cache anyway.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

void check_groups(const Inference& c, std::size_t image) {
  const Shape& x = c.shape(image);
  if (x.rank() < 2) c.refuse("input " + std::to_string(image) + " must have at least 2 dimensions");
  const auto groups = c.attrs.get<std::int64_t>("groups");
  if (groups < 1) c.refuse("groups is " + std::to_string(groups) + ", it must be at least 1");
  if (x[-1] != Shape::kUnknown && x[-1] % groups != 0) {
    c.refuse(std::to_string(groups) + " groups do not divide " + std::to_string(x[-1]) + " channels");
  }
  const auto epsilon = c.attrs.get<double>("epsilon");
  if (!(epsilon > 0)) c.refuse("epsilon is " + std::to_string(epsilon) + ", it must be above 0");
}

void expect_channels(const Inference& c, std::size_t i, const Shape& x) {
  c.expect_float(i);
  if (!compatible(c.shape(i), Shape{x[-1]})) c.refuse("input " + std::to_string(i) + " must have one element per channel");
}

std::vector<Signature> infer_norm(const Inference& c) {
  c.expect_inputs(3);
  c.expect_float(0);
  check_groups(c, 0);
  for (const std::size_t i : {1, 2}) expect_channels(c, i, c.shape(0));
  return {c.in(0)};
}

std::vector<Signature> infer_grad(const Inference& c) {
  c.expect_inputs(3);
  c.expect_float(0);
  const Shape shape = c.expect_same_shape(0, 1);
  check_groups(c, 1);
  expect_channels(c, 2, shape);
  const Signature channels{DType::float32, Shape{shape[-1]}};
  return {{DType::float32, shape}, channels, channels};
}

/// Samples as matrices of one row per pixel and one column per channel, each on one thread.
class GroupNormBase : public Kernel {
 protected:
  GroupNormBase(const NodeInfo& info, const Shape& x, std::int64_t rows_of_scratch)
      : samples_(x[0]), channels_(x.columns()), pixels_(samples_ == 0 ? 0 : x.rows() / samples_),
        per_group_(channels_ / info.attrs.get<std::int64_t>("groups")), epsilon_(info.attrs.get<double>("epsilon")),
        rows_(rows_of_scratch), scratch_(info, samples_ * rows_of_scratch * channels_) {}

  template <class F>
  void for_samples(ThreadPool& pool, F f) {
    pool.parallel_for(samples_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) f(n);
    });
  }
  /// Row i of sample n's scratch: one element per channel.
  [[nodiscard]] float* row(std::int64_t n, std::int64_t i) { return scratch_.data() + (n * rows_ + i) * channels_; }

  /// values[k] := f(Σ over the group of channel k) for every channel.
  template <class F>
  void share_in_groups(float* values, F f) const {
    for (std::int64_t begin = 0; begin < channels_; begin += per_group_) {
      double sum = 0;
      for (std::int64_t k = begin; k < begin + per_group_; ++k) sum += static_cast<double>(values[k]);
      std::fill_n(values + begin, per_group_, static_cast<float>(f(sum)));
    }
  }

  /// Of each channel's group: the mean, by how much it falls short of the true one (a float near a large mean, and the sum of
  /// large numbers that it is made of, are off by more than a small deviation bears), and 1 / √(variance + ε).
  void statistics(const float* __restrict x, float* __restrict mean, float* __restrict late, float* __restrict inverse) const {
    const auto m = static_cast<double>(pixels_ * per_group_);
    for (float* sums : {mean, late, inverse}) std::fill_n(sums, channels_, 0.f);
    for (std::int64_t p = 0; p < pixels_; ++p) {
      for (std::int64_t k = 0; k < channels_; ++k) mean[k] += x[p * channels_ + k];
    }
    share_in_groups(mean, [&](double sum) { return sum / m; });
    for (std::int64_t p = 0; p < pixels_; ++p) {
      for (std::int64_t k = 0; k < channels_; ++k) {
        const float d = x[p * channels_ + k] - mean[k];
        late[k] += d;
        inverse[k] += d * d;
      }
    }
    for (float* sums : {late, inverse}) share_in_groups(sums, [&](double sum) { return sum / m; });
    for (std::int64_t k = 0; k < channels_; ++k) {
      const double off = late[k], variance = static_cast<double>(inverse[k]) - off * off;
      inverse[k] = static_cast<float>(1 / std::sqrt(std::max(variance, 0.0) + epsilon_));
    }
  }

  std::int64_t samples_, channels_, pixels_, per_group_;
  double epsilon_;

 private:
  std::int64_t rows_;
  ScratchFloats scratch_;
};

class GroupNormKernel final : public GroupNormBase {
 public:
  explicit GroupNormKernel(const NodeInfo& info) : GroupNormBase(info, info.in[0].shape, 3) {}

  void run(KernelContext& c) override {
    const float *scale = c.in(1).data<float>(), *offset = c.in(2).data<float>();
    for_samples(c.pool(), [&](std::int64_t n) {
      const float* x = c.in(0).data<float>() + n * pixels_ * channels_;
      float* y = c.out().data<float>() + n * pixels_ * channels_;
      float *mean = row(n, 0), *shift = row(n, 1), *factor = row(n, 2);
      statistics(x, mean, shift, factor);
      for (std::int64_t k = 0; k < channels_; ++k) {
        factor[k] *= scale[k];
        shift[k] = offset[k] - shift[k] * factor[k];
      }
      for (std::int64_t p = 0; p < pixels_; ++p) {      // the mean first: the difference of large products would be rounded
        const std::int64_t at = p * channels_;
        for (std::int64_t k = 0; k < channels_; ++k) y[at + k] = (x[at + k] - mean[k]) * factor[k] + shift[k];
      }
    });
  }
};

/// dx, dscale and doffset from dy, x and scale: dx = (scale · dy − Σ(scale · dy) / m − x̂ Σ(scale · dy · x̂) / m) / σ, the
/// sums over the m elements of the group.
class GroupNormGradKernel final : public GroupNormBase {
 public:
  explicit GroupNormGradKernel(const NodeInfo& info) : GroupNormBase(info, info.in[1].shape, 6) {}

  void run(KernelContext& c) override {
    for_samples(c.pool(), [&](std::int64_t n) {
      const std::int64_t at = n * pixels_ * channels_;
      sample(n, c.in(0).data<float>() + at, c.in(1).data<float>() + at, c.in(2).data<float>(), c.out(0).data<float>() + at);
    });
    for (std::size_t output : {1, 2}) {      // over the samples in their order: the same bits on any number of threads
      float* sum = c.out(output).data<float>();
      std::fill_n(sum, channels_, 0.f);
      for (std::int64_t n = 0; n < samples_; ++n) {
        const float* part = row(n, output == 1 ? 3 : 2);
        for (std::int64_t k = 0; k < channels_; ++k) sum[k] += part[k];
      }
    }
  }

 private:
  /// Leaves Σ dy and Σ dy · x̂ over the pixels in rows 2 and 3.
  void sample(std::int64_t n, const float* dy, const float* x, const float* scale, float* dx) {
    float *mean = row(n, 0), *inverse = row(n, 1), *plain = row(n, 2), *with_x = row(n, 3), *a = row(n, 4), *b = row(n, 5);
    statistics(x, mean, plain, inverse);
    for (std::int64_t k = 0; k < channels_; ++k) mean[k] += plain[k];
    std::fill_n(plain, 2 * channels_, 0.f);
    for (std::int64_t p = 0; p < pixels_; ++p) {
      for (std::int64_t k = 0; k < channels_; ++k) {
        const float d = dy[p * channels_ + k];
        plain[k] += d;
        with_x[k] += d * (x[p * channels_ + k] - mean[k]) * inverse[k];
      }
    }
    const auto m = static_cast<double>(pixels_ * per_group_);
    for (std::int64_t k = 0; k < channels_; ++k) {
      a[k] = scale[k] * plain[k];
      b[k] = scale[k] * with_x[k];
    }
    for (float* sums : {a, b}) share_in_groups(sums, [&](double sum) { return sum / m; });
    for (std::int64_t p = 0; p < pixels_; ++p) {
      for (std::int64_t k = 0; k < channels_; ++k) {
        const std::int64_t at = p * channels_ + k;
        dx[at] = inverse[k] * (scale[k] * dy[at] - a[k] - (x[at] - mean[k]) * inverse[k] * b[k]);
      }
    }
  }
};

std::vector<Value> gradient_of_norm(const Backward& b) {
  const Node d = b.graph.add("GroupNormGrad", {b.dy(), b.x(0), b.x(1)},
                             {{"groups", b.attrs.get<std::int64_t>("groups")}, {"epsilon", b.attrs.get<double>("epsilon")}});
  return {d[0], d[1], d[2]};
}

ExampleInput random(const Shape& shape) { return {.shape = shape}; }
Attrs attrs(std::int64_t groups) { return {{"groups", groups}, {"epsilon", 1e-2}}; }

const Registered<Op> norm_op{
    "GroupNorm",
    {.infer = infer_norm,
     .gradient = gradient_of_norm,
     .examples = {{.in = {random({2, 3, 2, 6}), random({6}), random({6})}, .attrs = attrs(3)},
                  {.in = {random({3, 5, 4}), random({4}), random({4})}, .attrs = attrs(1)},
                  {.in = {random({2, 7, 3}), random({3}), random({3})}, .attrs = attrs(3)},
                  {.in = {random({3, 8}), random({8}), random({8})}, .attrs = attrs(2)},
                  {.in = {random({0, 2, 4}), random({4}), random({4})}, .attrs = attrs(2), .expected = {{}}}},
     .reuse = {{.output = 0, .input = 0}}}};
const RegisteredKernel norm_kernel{"GroupNorm", "CPU", make_kernel<GroupNormKernel>};

// With ε = 3 and x = ±1 1/σ is 1/2: dx = (dy − 1.5 − x̂ · Σ(dy x̂) / 2) / 2, x̂ = ±1/2.
const Registered<Op> grad_op{"GroupNormGrad",
                             {.infer = infer_grad,
                              .examples = {{.in = {{.shape = {1, 1, 2}, .values = {1, 2}},
                                                   {.shape = {1, 1, 2}, .values = {-1, 1}},
                                                   {.shape = {2}, .values = {1, 1}}},
                                            .attrs = {{"groups", std::int64_t{1}}, {"epsilon", 3.0}},
                                            .expected = {{-0.1875, 0.1875}, {-0.5, 1}, {1, 2}}}}}};
const RegisteredKernel grad_kernel{"GroupNormGrad", "CPU", make_kernel<GroupNormGradKernel>};

}  // namespace
}  // namespace cohort
