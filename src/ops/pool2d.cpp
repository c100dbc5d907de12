// Pooling of images [n, h, w, c]: the maximum or the mean of each window, padding excluded (Dumoulin & Visin, "A guide to
// convolution arithmetic for deep learning", 2016, chapter 3). The innermost loops run over channels.
#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/graph.hpp"
#include "cohort/graph/gradients.hpp"
#include "window.hpp"

namespace cohort {
namespace {

std::int64_t size_of_window(const Inference& c) {
  if (!c.attrs.has("size")) c.refuse("attribute size is missing");
  return positive_attr(c, "size", 1);
}

Shape infer_output(const Inference& c, std::size_t image) {
  c.expect_float(image);
  c.expect_rank(image, 4);
  const std::int64_t size = size_of_window(c);
  const Shape& x = c.shape(image);
  return {x[0], infer_window(c, x[1], size), infer_window(c, x[2], size), x[3]};
}

std::vector<Signature> infer_pool(const Inference& c) {
  c.expect_inputs(1);
  return {{DType::float32, infer_output(c, 0)}};
}

/// One window, cut to the part that lies inside the image, and the offset of the pixel that it gives.
struct Box {
  std::int64_t out, top, bottom, left, right;
  [[nodiscard]] float share() const { return 1.f / static_cast<float>((bottom - top) * (right - left)); }
};

/// The windows of one image.
class Windows {
 public:
  Windows(const Shape& x, const Attrs& attrs) : channels(x[3]) {
    const std::int64_t size = attrs.get<std::int64_t>("size"), stride = attrs.get<std::int64_t>("stride", 1);
    rows = window_of(x[1], size, stride, 1, is_same_padding(attrs));
    columns = window_of(x[2], size, stride, 1, is_same_padding(attrs));
  }

  /// f(box) for every pixel of the output rows [begin, end).
  template <class F>
  void for_each(std::int64_t begin, std::int64_t end, F f) const {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [top, bottom] = inside(rows, i);
      for (std::int64_t j = 0; j < columns.out; ++j) {
        const auto [left, right] = inside(columns, j);
        f(Box{(i * columns.out + j) * channels, top, bottom, left, right});
      }
    }
  }

  /// f(offset) for every pixel of the box, row by row.
  template <class F>
  void for_pixels(const Box& box, F f) const {
    for (std::int64_t i = box.top; i < box.bottom; ++i) {
      for (std::int64_t j = box.left; j < box.right; ++j) f((i * columns.in + j) * channels);
    }
  }

  /// Where window i of a dimension begins and ends, without the padding.
  static std::pair<std::int64_t, std::int64_t> inside(const Window& w, std::int64_t i) {
    const std::int64_t begin = i * w.stride - w.before;
    return {std::max<std::int64_t>(begin, 0), std::min(begin + w.size, w.in)};
  }

  [[nodiscard]] std::int64_t in_elements() const { return rows.in * columns.in * channels; }
  [[nodiscard]] std::int64_t out_elements() const { return rows.out * columns.out * channels; }

  Window rows, columns;
  std::int64_t channels;

};

/// Runs over (image, output row) pairs, or over whole images where windows of different rows write to the same pixel.
class PoolKernel : public Kernel {
 protected:
  PoolKernel(const Shape& x, const Attrs& attrs) : windows_(x, attrs), images_(x[0]) {}

  template <class F>
  void for_rows(KernelContext& c, F f) const {
    const std::int64_t rows = windows_.rows.out;
    c.pool().parallel_for(images_ * rows, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) f(i / rows, i % rows, i % rows + 1);
    });
  }
  template <class F>
  void for_images(KernelContext& c, F f) const {
    c.pool().parallel_for(images_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) f(n);
    });
  }

  Windows windows_;
  std::int64_t images_;
};

/// First the maximum over the rows of a row of windows, in loops as long as the image is wide whatever the number of
/// channels, then over the columns of each window.
class MaxPoolKernel final : public PoolKernel {
 public:
  explicit MaxPoolKernel(const NodeInfo& info)
      : PoolKernel(info.in[0].shape, info.attrs), width_(windows_.columns.in * windows_.channels),
        lines_(static_cast<std::size_t>(images_ * width_)) {}

  void run(KernelContext& c) override {
    for_images(c, [&](std::int64_t n) {
      const float* x = c.in(0).data<float>() + n * windows_.in_elements();
      float* y = c.out().data<float>() + n * windows_.out_elements();
      float* line = lines_.data() + n * width_;
      for (std::int64_t i = 0; i < windows_.rows.out; ++i) {
        const auto [top, bottom] = Windows::inside(windows_.rows, i);
        std::copy_n(x + top * width_, width_, line);
        for (std::int64_t row = top + 1; row < bottom; ++row) raise(line, x + row * width_, width_);
        windows_.for_each(i, i + 1, [&](const Box& box) {
          float* result = y + box.out;
          std::copy_n(line + box.left * windows_.channels, windows_.channels, result);
          for (std::int64_t j = box.left + 1; j < box.right; ++j)
            raise(result, line + j * windows_.channels, windows_.channels);
        });
      }
    });
  }

 private:
  /// a := max(a, b); a NaN wins and stays.
  static void raise(float* __restrict a, const float* __restrict b, std::int64_t n) {
    for (std::int64_t k = 0; k < n; ++k) a[k] = (b[k] > a[k]) | (b[k] != b[k]) ? b[k] : a[k];
  }

  std::int64_t width_;
  std::vector<float> lines_;   // one per image
};

/// dx from dy, x and y: each dy goes to the first of the largest elements of its window (a NaN counts as largest).
class MaxPoolGradKernel final : public PoolKernel {
 public:
  explicit MaxPoolGradKernel(const NodeInfo& info) : PoolKernel(info.in[1].shape, info.attrs) {}

  void run(KernelContext& c) override {
    for_images(c, [&](std::int64_t n) {
      const float* x = c.in(1).data<float>() + n * windows_.in_elements();
      const float* dy = c.in(0).data<float>() + n * windows_.out_elements();
      const float* y = c.in(2).data<float>() + n * windows_.out_elements();
      float* dx = c.out().data<float>() + n * windows_.in_elements();
      std::fill_n(dx, windows_.in_elements(), 0.f);
      windows_.for_each(0, windows_.rows.out, [&](const Box& box) {
        for (std::int64_t first = 0; first < windows_.channels; first += kBlock) {
          const std::int64_t count = std::min<std::int64_t>(kBlock, windows_.channels - first), out = box.out + first;
          std::array<float, kBlock> todo;   // what has not found its element yet
          std::copy_n(dy + out, count, todo.begin());
          windows_.for_pixels(box, [&](std::int64_t at) {
            take(x + at + first, y + out, todo.data(), dx + at + first, count);
          });
        }
      });
    });
  }

 private:
  static constexpr std::int64_t kBlock = 64;

  static void take(const float* __restrict x, const float* __restrict y, float* __restrict todo, float* __restrict dx,
                   std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) {
      const bool hit = (x[k] == y[k]) | (x[k] != x[k]);
      dx[k] += hit ? todo[k] : 0.f;
      todo[k] = hit ? 0.f : todo[k];
    }
  }
};

class AveragePoolKernel final : public PoolKernel {
 public:
  explicit AveragePoolKernel(const NodeInfo& info) : PoolKernel(info.in[0].shape, info.attrs) {}

  void run(KernelContext& c) override {
    const std::int64_t channels = windows_.channels;
    for_rows(c, [&](std::int64_t n, std::int64_t begin, std::int64_t end) {
      const float* x = c.in(0).data<float>() + n * windows_.in_elements();
      float* y = c.out().data<float>() + n * windows_.out_elements();
      windows_.for_each(begin, end, [&](const Box& box) {
        float* result = y + box.out;
        std::fill_n(result, channels, 0.f);
        windows_.for_pixels(box, [&](std::int64_t at) {
          for (std::int64_t k = 0; k < channels; ++k) result[k] += x[at + k];
        });
        const float share = box.share();
        for (std::int64_t k = 0; k < channels; ++k) result[k] *= share;
      });
    });
  }
};

/// dx from dy; the second input gives only its shape.
class AveragePoolGradKernel final : public PoolKernel {
 public:
  explicit AveragePoolGradKernel(const NodeInfo& info) : PoolKernel(info.in[1].shape, info.attrs) {}

  void run(KernelContext& c) override {
    const std::int64_t channels = windows_.channels;
    for_images(c, [&](std::int64_t n) {
      const float* dy = c.in(0).data<float>() + n * windows_.out_elements();
      float* dx = c.out().data<float>() + n * windows_.in_elements();
      std::fill_n(dx, windows_.in_elements(), 0.f);
      windows_.for_each(0, windows_.rows.out, [&](const Box& box) {
        const float share = box.share();
        windows_.for_pixels(box, [&](std::int64_t at) {
          for (std::int64_t k = 0; k < channels; ++k) dx[at + k] += share * dy[box.out + k];
        });
      });
    });
  }
};

Attrs attrs_of(const Attrs& attrs) {
  return {{"size", attrs.get<std::int64_t>("size")},
          {"stride", attrs.get<std::int64_t>("stride", 1)},
          {"padding", attrs.get<std::string>("padding")}};
}

void expect_result(const Inference& c, std::size_t input, const Shape& shape) {
  c.expect_float(input);
  if (!compatible(c.shape(input), shape)) {
    c.refuse("input " + std::to_string(input) + " must have the result's shape " + shape.text());
  }
}

std::vector<Signature> infer_max_grad(const Inference& c) {
  c.expect_inputs(3);
  const Shape y = infer_output(c, 1);
  expect_result(c, 0, y);
  expect_result(c, 2, y);
  return {c.in(1)};
}

std::vector<Signature> infer_average_grad(const Inference& c) {
  c.expect_inputs(2);
  expect_result(c, 0, infer_output(c, 1));
  return {c.in(1)};
}

std::vector<Value> gradient_of_max(const Backward& b) {
  return {b.graph.add("MaxPoolGrad", {b.dy(), b.x(0), b.y()}, attrs_of(b.attrs))};
}
std::vector<Value> gradient_of_average(const Backward& b) {
  return {b.graph.add("AveragePoolGrad", {b.dy(), b.x(0)}, attrs_of(b.attrs))};
}
std::vector<Value> gradient_of_average_grad(const Backward& b) {
  return {b.graph.add("AveragePool", {b.dy()}, attrs_of(b.attrs)), {}};
}

Attrs attrs(std::int64_t size, std::int64_t stride, const char* padding) {
  return {{"size", size}, {"stride", stride}, {"padding", padding}};
}

/// All different, and further apart than a finite difference: a permutation of the whole numbers.
ExampleInput distinct(const Shape& shape) {
  ExampleInput input{.shape = shape};
  const std::int64_t n = shape.elements();
  std::int64_t step = 7;                       // coprime to n, so that i · step mod n takes every value once
  while (n % step == 0) step += 4;
  for (std::int64_t i = 0; i < n; ++i) input.values.push_back(static_cast<double>(i * step % n) * 0.25 - 3);
  return input;
}

std::vector<Example> pool_examples() {
  std::vector<Example> list;
  list.push_back({.in = {distinct({2, 4, 6, 3})}, .attrs = attrs(2, 2, "valid")});
  list.push_back({.in = {distinct({1, 5, 5, 1})}, .attrs = attrs(2, 2, "valid")});
  list.push_back({.in = {distinct({1, 5, 4, 2})}, .attrs = attrs(3, 2, "same")});
  list.push_back({.in = {distinct({1, 4, 5, 2})}, .attrs = attrs(3, 1, "valid")});
  list.push_back({.in = {distinct({1, 3, 3, 1})}, .attrs = attrs(1, 1, "same")});
  list.push_back({.in = {{.shape = {0, 4, 4, 2}}}, .attrs = attrs(2, 2, "valid"), .expected = {{}}});
  return list;
}

const Registered<Op> max_op{"MaxPool", {.infer = infer_pool, .gradient = gradient_of_max, .examples = pool_examples()}};
const RegisteredKernel max_kernel{"MaxPool", "CPU", make_kernel<MaxPoolKernel>};

const Registered<Op> max_grad_op{
    "MaxPoolGrad",
    {.infer = infer_max_grad,
     .examples = {{.in = {{.shape = {1, 1, 2, 1}, .values = {10, 20}},
                          {.shape = {1, 2, 3, 1}, .values = {1, 5, 2, 5, 0, 3}},
                          {.shape = {1, 1, 2, 1}, .values = {5, 5}}},
                   .attrs = attrs(2, 1, "valid"),
                   .expected = {{0, 30, 0, 0, 0, 0}}},      // the first of two equal ones
                  {.in = {{.shape = {0, 1, 1, 1}}, {.shape = {0, 1, 1, 1}}, {.shape = {0, 1, 1, 1}}},
                   .attrs = attrs(1, 1, "valid"),
                   .expected = {{}}}}}};
const RegisteredKernel max_grad_kernel{"MaxPoolGrad", "CPU", make_kernel<MaxPoolGradKernel>};

const Registered<Op> average_op{"AveragePool",
                                {.infer = infer_pool, .gradient = gradient_of_average, .examples = pool_examples()}};
const RegisteredKernel average_kernel{"AveragePool", "CPU", make_kernel<AveragePoolKernel>};

const Registered<Op> average_grad_op{
    "AveragePoolGrad",
    {.infer = infer_average_grad,
     .gradient = gradient_of_average_grad,
     .examples = {{.in = {{.shape = {1, 1, 2, 1}, .values = {4, 8}}, {.shape = {1, 2, 3, 1}}},
                   .attrs = attrs(2, 1, "valid"),
                   .expected = {{1, 3, 2, 1, 3, 2}}},
                  {.in = {{.shape = {1, 2, 1, 1}, .values = {4, 3}}, {.shape = {1, 2, 1, 1}}},
                   .attrs = attrs(2, 1, "same"),
                   .expected = {{2, 5}}}},
     .shapes_from = 1}};
const RegisteredKernel average_grad_kernel{"AveragePoolGrad", "CPU", make_kernel<AveragePoolGradKernel>};

}  // namespace
}  // namespace cohort
