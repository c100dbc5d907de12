// Images [n, h, w, c] in another size. "nearest" takes the pixel ⌊i · in / out⌋ of each axis, in whole numbers, so that no size
// is rounded to a neighbour (PyTorch's "nearest"; not centre to centre, which is its "nearest-exact"). "bilinear" lays centre to
// centre, x = (i + 1/2) · in / out − 1/2 (PyTorch's align_corners = False), and takes the weighted mean of the two pixels next to
// x in each direction, without a filter when the image shrinks.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

std::int64_t size_attr(const Inference& c, std::string_view name) {
  const auto size = c.attrs.get<std::int64_t>(name);
  if (size < 1) c.refuse(std::string(name) + " is " + std::to_string(size) + ", it must be at least 1");
  return size;
}

Shape resized(const Inference& c, std::size_t image) {
  c.expect_float(image);
  c.expect_rank(image, 4);
  const auto& method = c.attrs.get<std::string>("method");
  if (method != "nearest" && method != "bilinear") {
    c.refuse("method is \"" + method + "\", it must be \"nearest\" or \"bilinear\"");
  }
  const Shape& x = c.shape(image);
  if (x[1] == 0 || x[2] == 0) c.refuse("the image has no pixels");
  return {x[0], size_attr(c, "height"), size_attr(c, "width"), x[3]};
}

std::vector<Signature> infer_resize(const Inference& c) {
  c.expect_inputs(1);
  return {{DType::float32, resized(c, 0)}};
}

/// The second input gives only its shape.
std::vector<Signature> infer_grad(const Inference& c) {
  c.expect_inputs(2);
  c.expect_float(0);
  const Shape y = resized(c, 1);
  if (!compatible(c.shape(0), y)) c.refuse("input 0 must have the result's shape " + y.text());
  return {c.in(1)};
}

/// What one line of the result is made of: (1 − weight) · line `low` + weight · line `high`.
struct Tap {
  std::int64_t low, high;
  float weight;
};

std::vector<Tap> taps(std::int64_t in, std::int64_t out, bool nearest) {
  std::vector<Tap> list;
  for (std::int64_t i = 0; i < out; ++i) {
    if (nearest) {
      list.push_back({i * in / out, i * in / out, 0.f});
      continue;
    }
    const double ratio = static_cast<double>(in) / static_cast<double>(out);
    const double x = std::max((static_cast<double>(i) + 0.5) * ratio - 0.5, 0.0);
    const std::int64_t low = std::min(static_cast<std::int64_t>(x), in - 1);
    list.push_back({low, std::min(low + 1, in - 1), static_cast<float>(x - static_cast<double>(low))});
  }
  return list;
}

class ResizeBase : public Kernel {
 protected:
  ResizeBase(const NodeInfo& info, const Shape& x, const Shape& y)
      : images_(x[0]), channels_(x[3]), in_(x[1] * x[2] * x[3]), out_(y[1] * y[2] * y[3]), width_(x[2]),
        nearest_(info.attrs.get<std::string>("method") == "nearest"), rows_(taps(x[1], y[1], nearest_)),
        columns_(taps(x[2], y[2], nearest_)) {}

  /// f(offset in the result, offsets of the four pixels that it is made of, their weights) for one image.
  template <class F>
  void for_pixels(F f) const {
    std::int64_t to = 0;
    for (const Tap& r : rows_) {
      for (const Tap& c : columns_) {
        const std::int64_t from[4] = {(r.low * width_ + c.low) * channels_, (r.low * width_ + c.high) * channels_,
                                      (r.high * width_ + c.low) * channels_, (r.high * width_ + c.high) * channels_};
        const float share[4] = {(1 - r.weight) * (1 - c.weight), (1 - r.weight) * c.weight, r.weight * (1 - c.weight),
                                r.weight * c.weight};
        f(to, from, share);
        to += channels_;
      }
    }
  }
  template <class F>
  void for_images(ThreadPool& pool, F f) const {
    pool.parallel_for(images_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) f(n);
    });
  }

  std::int64_t images_, channels_, in_, out_, width_;
  bool nearest_;

 private:
  std::vector<Tap> rows_, columns_;
};

class ResizeKernel final : public ResizeBase {
 public:
  explicit ResizeKernel(const NodeInfo& info) : ResizeBase(info, info.in[0].shape, info.out[0].shape) {}

  void run(KernelContext& c) override {
    for_images(c.pool(), [&](std::int64_t n) {
      const float* x = c.in(0).data<float>() + n * in_;
      float* y = c.out().data<float>() + n * out_;
      for_pixels([&](std::int64_t to, const std::int64_t* from, const float* share) {
        if (nearest_) {
          std::copy_n(x + from[0], channels_, y + to);
          return;
        }
        const float *a = x + from[0], *b = x + from[1], *d = x + from[2], *e = x + from[3];
        for (std::int64_t k = 0; k < channels_; ++k) {
          y[to + k] = share[0] * a[k] + share[1] * b[k] + share[2] * d[k] + share[3] * e[k];
        }
      });
    });
  }
};

class ResizeGradKernel final : public ResizeBase {
 public:
  explicit ResizeGradKernel(const NodeInfo& info) : ResizeBase(info, info.in[1].shape, info.in[0].shape) {}

  void run(KernelContext& c) override {
    for_images(c.pool(), [&](std::int64_t n) {
      const float* dy = c.in(0).data<float>() + n * out_;
      float* dx = c.out().data<float>() + n * in_;
      std::fill_n(dx, in_, 0.f);
      for_pixels([&](std::int64_t to, const std::int64_t* from, const float* share) {
        for (int corner = 0; corner < (nearest_ ? 1 : 4); ++corner) {
          float* into = dx + from[corner];
          for (std::int64_t k = 0; k < channels_; ++k) into[k] += share[corner] * dy[to + k];
        }
      });
    });
  }
};

Attrs attrs_of(const Attrs& attrs) {
  return {{"height", attrs.get<std::int64_t>("height")},
          {"width", attrs.get<std::int64_t>("width")},
          {"method", attrs.get<std::string>("method")}};
}

Attrs attrs(std::int64_t height, std::int64_t width, const char* method) {
  return {{"height", height}, {"width", width}, {"method", method}};
}

std::vector<Example> resize_examples() {
  std::vector<Example> list;
  for (const char* method : {"nearest", "bilinear"}) {
    list.push_back({.in = {{.shape = {2, 3, 4, 2}}}, .attrs = attrs(6, 8, method)});
    list.push_back({.in = {{.shape = {1, 5, 7, 3}}}, .attrs = attrs(3, 10, method)});
    list.push_back({.in = {{.shape = {1, 1, 2, 1}}}, .attrs = attrs(3, 1, method)});
  }
  list.push_back({.in = {{.shape = {0, 2, 2, 1}}}, .attrs = attrs(4, 4, "bilinear"), .expected = {{}}});
  return list;
}

const Registered<Op> resize_op{"Resize",
                               {.infer = infer_resize,
                                .gradient = [](const Backward& b) -> std::vector<Value> {
                                  return {b.graph.add("ResizeGrad", {b.dy(), b.x(0)}, attrs_of(b.attrs))};
                                },
                                .examples = resize_examples()}};
const RegisteredKernel resize_kernel{"Resize", "CPU", make_kernel<ResizeKernel>};

const Registered<Op> grad_op{"ResizeGrad",
                             {.infer = infer_grad,
                              .gradient = [](const Backward& b) -> std::vector<Value> {
                                return {b.graph.add("Resize", {b.dy()}, attrs_of(b.attrs)), {}};
                              },
                              .examples = {{.in = {{.shape = {1, 2, 2, 1}, .values = {1, 2, 3, 4}}, {.shape = {1, 1, 2, 1}}},
                                            .attrs = attrs(2, 2, "nearest"),
                                            .expected = {{4, 6}}},
                                           {.in = {{.shape = {1, 1, 4, 1}, .values = {1, 2, 4, 8}}, {.shape = {1, 1, 2, 1}}},
                                            .attrs = attrs(1, 4, "bilinear"),
                                            .expected = {{3.5, 11.5}}}},
                              .shapes_from = 1}};
const RegisteredKernel grad_kernel{"ResizeGrad", "CPU", make_kernel<ResizeGradKernel>};

}  // namespace
}  // namespace cohort
