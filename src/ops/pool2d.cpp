// Pooling of images [n, h, w, c]: the maximum or the mean of each window, padding excluded (Dumoulin & Visin, "A guide to
// convolution arithmetic for deep learning", 2016, chapter 3). The innermost loops run over channels.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
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

/// One window, cut to the part that lies inside the image, where it begins without the cut, and the offset of the pixel
/// that it gives. `room`: elements from its pixels to the ends of their rows, at least, and from the one that it gives.
struct Box {
  std::int64_t out, top, bottom, left, right, first_row, first_column, room;
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
        f(Box{(i * columns.out + j) * channels, top, bottom, left, right, i * rows.stride - rows.before,
              j * columns.stride - columns.before, std::min(columns.in - right + 1, columns.out - j) * channels});
      }
    }
  }

  /// f(offset, position in the window) for every pixel of the box, row by row.
  template <class F>
  void for_pixels(const Box& box, F f) const {
    for (std::int64_t i = box.top; i < box.bottom; ++i) {
      const std::int64_t row = (i - box.first_row) * rows.size - box.first_column;
      for (std::int64_t j = box.left; j < box.right; ++j) f((i * columns.in + j) * channels, row + j);
    }
  }

  /// The same for a box that is a whole window of kSize · kSize pixels, with loops that the compiler unrolls.
  template <int kSize, class F>
  [[gnu::always_inline]] void for_pixels_of(const Box& box, F f) const {
    const std::int64_t first = (box.top * columns.in + box.left) * channels;
    for (int i = 0; i < kSize; ++i) {
      for (int j = 0; j < kSize; ++j) f(first + (i * columns.in + j) * channels, i * kSize + j);
    }
  }
  template <class F>
  [[gnu::always_inline]] void for_pixels_fast(const Box& box, F f) const {
    const bool whole = box.bottom - box.top == rows.size && box.right - box.left == rows.size;
    if (whole && rows.size == 2) for_pixels_of<2>(box, f);
    else if (whole && rows.size == 3) for_pixels_of<3>(box, f);
    else for_pixels(box, f);
  }

  [[nodiscard]] std::int64_t first_position(const Box& box) const {
    return (box.top - box.first_row) * rows.size + box.left - box.first_column;
  }

  /// Does every pixel belong to exactly one window?
  [[nodiscard]] bool tile() const {
    const auto tiles = [](const Window& w) { return w.stride == w.size && w.before == 0 && w.out * w.size >= w.in; };
    return tiles(rows) && tiles(columns);
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

bool with_relu(const Attrs& attrs) { return attrs.get("relu", false); }

/// Where in its window, counted row by row, a maximum lies; `kNone` where nothing flows back to it.
template <class Index>
constexpr Index kNone = std::numeric_limits<Index>::max();

DType index_type(std::int64_t size) { return size * size < kNone<std::uint8_t> ? DType::uint8 : DType::int32; }

/// Eight channels at once. What lies in memory is copied in and out, so that nothing need be aligned.
constexpr std::int64_t kLanes = 8;
using Floats [[gnu::vector_size(kLanes * sizeof(float))]] = float;
using Ints [[gnu::vector_size(kLanes * sizeof(std::int32_t))]] = std::int32_t;

template <class V, class T>
[[gnu::always_inline]] inline void load(V& v, const T* from) { std::memcpy(&v, from, sizeof(V)); }
template <class V, class T>
[[gnu::always_inline]] inline void store(T* to, const V& v) { std::memcpy(to, &v, sizeof(V)); }

template <class Index>
struct IndexLanes {
  using Type [[gnu::vector_size(kLanes * sizeof(Index))]] = Index;
};

/// `eight(first)` for blocks of channels that cover those of a pixel of the output. The last block ends with the last channel:
/// where eight does not divide their number it begins inside the one before, and gives the same results there once more.
/// Where there are fewer than eight, the block goes on into the pixels on the right, which are computed later, if `room`
/// elements allow it; `one(channel)` otherwise.
template <class Eight, class One>
[[gnu::always_inline]] inline void for_channels(std::int64_t channels, std::int64_t room, Eight eight, One one) {
  if (channels >= kLanes) {
    for (std::int64_t k = 0; k < channels - kLanes; k += kLanes) eight(k);
    eight(channels - kLanes);
  } else if (room >= kLanes) {
    eight(0);
  } else {
    for (std::int64_t k = 0; k < channels; ++k) one(k);
  }
}

/// The same where results are added to what is there, so that none may come twice: each channel exactly once.
template <class Eight, class One>
[[gnu::always_inline]] inline void for_channels_once(std::int64_t channels, Eight eight, One one) {
  std::int64_t k = 0;
  for (; k + kLanes <= channels; k += kLanes) eight(k);
  for (; k < channels; ++k) one(k);
}

/// y and the index of the first of the largest elements of each window; a NaN counts as largest. With relu, y is not below
/// zero, and where the maximum is not above zero nothing flows back.
template <class Index>
class MaxPoolKernel final : public PoolKernel {
 public:
  explicit MaxPoolKernel(const NodeInfo& info) : PoolKernel(info.in[0].shape, info.attrs), relu_(with_relu(info.attrs)) {}

  void run(KernelContext& c) override {
    for_rows(c, [&](std::int64_t n, std::int64_t begin, std::int64_t end) {
      const float* x = c.in(0).data<float>() + n * windows_.in_elements();
      float* y = c.out(0).data<float>() + n * windows_.out_elements();
      Index* index = static_cast<Index*>(c.out(1).raw()) + n * windows_.out_elements();
      windows_.for_each(begin, end, [&](const Box& box) {
        for_channels(windows_.channels, box.room,
                     [&](std::int64_t k) { eight(x + k, box, y + box.out + k, index + box.out + k); },
                     [&](std::int64_t k) { one(x + k, box, y[box.out + k], index[box.out + k]); });
      });
    });
  }

 private:
  [[gnu::always_inline]] void eight(const float* x, const Box& box, float* y, Index* index) const {
    Floats most = Floats{} - std::numeric_limits<float>::infinity();
    Ints at = Ints{} + static_cast<std::int32_t>(windows_.first_position(box));
    windows_.for_pixels_fast(box, [&](std::int64_t pixel, std::int64_t position) {
      Floats v;
      load(v, x + pixel);
      const Ints more = ~(v <= most) & (most == most);
      most = more ? v : most;
      at = more ? Ints{} + static_cast<std::int32_t>(position) : at;
    });
    if (relu_) {
      const Ints off = most <= 0.f;
      most = off ? Floats{} : most;
      at = off ? Ints{} + static_cast<std::int32_t>(kNone<Index>) : at;
    }
    store(y, most);
    store(index, __builtin_convertvector(at, typename IndexLanes<Index>::Type));
  }

  void one(const float* x, const Box& box, float& y, Index& index) const {
    y = -std::numeric_limits<float>::infinity();
    std::int64_t at = windows_.first_position(box);
    windows_.for_pixels(box, [&](std::int64_t pixel, std::int64_t position) {
      const float v = x[pixel];
      if (v <= y || std::isnan(y)) return;
      y = v;
      at = position;
    });
    index = static_cast<Index>(at);
    if (!relu_ || !(y <= 0.f)) return;
    y = 0;
    index = kNone<Index>;
  }

  bool relu_;
};

/// dx from dy and the index; the third input gives only its shape.
template <class Index>
class MaxPoolGradKernel final : public PoolKernel {
 public:
  explicit MaxPoolGradKernel(const NodeInfo& info) : PoolKernel(info.in[2].shape, info.attrs), tile_(windows_.tile()) {}

  void run(KernelContext& c) override {
    for_images(c, [&](std::int64_t n) {
      const float* dy = c.in(0).data<float>() + n * windows_.out_elements();
      const Index* index = static_cast<const Index*>(c.in(1).raw()) + n * windows_.out_elements();
      float* dx = c.out().data<float>() + n * windows_.in_elements();
      if (tile_) {
        windows_.for_each(0, windows_.rows.out, [&](const Box& box) {
          for_channels(windows_.channels, box.room,
                       [&](std::int64_t k) { eight<false>(dy + box.out + k, index + box.out + k, box, dx + k); },
                       [&](std::int64_t k) { one<false>(dy[box.out + k], index[box.out + k], box, dx + k); });
        });
        return;
      }
      std::fill_n(dx, windows_.in_elements(), 0.f);
      windows_.for_each(0, windows_.rows.out, [&](const Box& box) {
        for_channels_once(windows_.channels,
                          [&](std::int64_t k) { eight<true>(dy + box.out + k, index + box.out + k, box, dx + k); },
                          [&](std::int64_t k) { one<true>(dy[box.out + k], index[box.out + k], box, dx + k); });
      });
    });
  }

 private:
  template <bool kAdd>
  [[gnu::always_inline]] void eight(const float* dy, const Index* index, const Box& box, float* dx) const {
    Floats d;
    typename IndexLanes<Index>::Type narrow;
    load(d, dy);
    load(narrow, index);
    const Ints at = __builtin_convertvector(narrow, Ints);
    windows_.for_pixels_fast(box, [&](std::int64_t pixel, std::int64_t position) {
      const Floats part = at == static_cast<std::int32_t>(position) ? d : Floats{};
      Floats before{};
      if constexpr (kAdd) load(before, dx + pixel);
      store(dx + pixel, kAdd ? before + part : part);
    });
  }

  template <bool kAdd>
  void one(float dy, Index index, const Box& box, float* dx) const {
    windows_.for_pixels(box, [&](std::int64_t pixel, std::int64_t position) {
      const float part = position == static_cast<std::int64_t>(index) ? dy : 0.f;
      dx[pixel] = kAdd ? dx[pixel] + part : part;
    });
  }

  bool tile_;   // each pixel of dx is written exactly once, which spares the zeros and the sums
};

/// The kernel for the type of index that the window's size asks for.
template <template <class> class K>
std::unique_ptr<Kernel> make_max_kernel(const NodeInfo& info) {
  if (index_type(info.attrs.get<std::int64_t>("size")) == DType::uint8) return std::make_unique<K<std::uint8_t>>(info);
  return std::make_unique<K<std::int32_t>>(info);
}

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
        windows_.for_pixels(box, [&](std::int64_t at, std::int64_t) {
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
        windows_.for_pixels(box, [&](std::int64_t at, std::int64_t) {
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

std::vector<Signature> infer_max(const Inference& c) {
  c.expect_inputs(1);
  const Shape y = infer_output(c, 0);
  return {{DType::float32, y}, {index_type(size_of_window(c)), y}};
}

std::vector<Signature> infer_max_grad(const Inference& c) {
  c.expect_inputs(3);
  const Shape y = infer_output(c, 2);
  expect_result(c, 0, y);
  if (!compatible(c.shape(1), y)) c.refuse("input 1 must have the result's shape " + y.text());
  c.expect_dtype(1, index_type(size_of_window(c)));
  return {c.in(2)};
}

std::vector<Signature> infer_average_grad(const Inference& c) {
  c.expect_inputs(2);
  expect_result(c, 0, infer_output(c, 1));
  return {c.in(1)};
}

std::vector<Value> gradient_of_max(const Backward& b) {
  return {b.graph.add("MaxPoolGrad", {b.dy(), b.y(1), b.x(0)}, attrs_of(b.attrs))};
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
ExampleInput distinct(const Shape& shape, double least = -3) {
  ExampleInput input{.shape = shape};
  const std::int64_t n = shape.elements();
  std::int64_t step = 7;                       // coprime to n, so that i · step mod n takes every value once
  while (n % step == 0) step += 4;
  for (std::int64_t i = 0; i < n; ++i) input.values.push_back(static_cast<double>(i * step % n) * 0.25 + least);
  return input;
}

std::vector<Example> pool_examples() {
  std::vector<Example> list;
  list.push_back({.in = {distinct({2, 4, 6, 3})}, .attrs = attrs(2, 2, "valid")});
  list.push_back({.in = {distinct({1, 5, 5, 1})}, .attrs = attrs(2, 2, "valid")});
  list.push_back({.in = {distinct({1, 5, 4, 2})}, .attrs = attrs(3, 2, "same")});
  list.push_back({.in = {distinct({1, 4, 5, 2})}, .attrs = attrs(3, 1, "valid")});
  list.push_back({.in = {distinct({1, 3, 3, 1})}, .attrs = attrs(1, 1, "same")});
  return list;
}

std::vector<Example> max_examples() {
  std::vector<Example> list = pool_examples();
  Attrs relu = attrs(2, 2, "valid");
  relu.set("relu", true);
  list.push_back({.in = {distinct({2, 4, 4, 3}, -11.1)}, .attrs = relu});
  list.push_back({.in = {distinct({1, 16, 17, 1}, -3)}, .attrs = attrs(16, 1, "valid")});   // an index of 32 bits
  list.push_back({.in = {{.shape = {0, 4, 4, 2}}}, .attrs = attrs(2, 2, "valid"), .expected = {{}, {}}});
  return list;
}

std::vector<Example> average_examples() {
  std::vector<Example> list = pool_examples();
  list.push_back({.in = {{.shape = {0, 4, 4, 2}}}, .attrs = attrs(2, 2, "valid"), .expected = {{}}});
  return list;
}

const Registered<Op> max_op{"MaxPool", {.infer = infer_max, .gradient = gradient_of_max, .examples = max_examples()}};
const RegisteredKernel max_kernel{"MaxPool", "CPU", make_max_kernel<MaxPoolKernel>};

const Registered<Op> max_grad_op{
    "MaxPoolGrad",
    {.infer = infer_max_grad,
     .examples = {{.in = {{.shape = {1, 1, 2, 1}, .values = {10, 20}},
                          {.shape = {1, 1, 2, 1}, .dtype = DType::uint8, .values = {1, 0}},
                          {.shape = {1, 2, 3, 1}}},
                   .attrs = attrs(2, 1, "valid"),
                   .expected = {{0, 30, 0, 0, 0, 0}}},
                  {.in = {{.shape = {1, 1, 2, 1}, .values = {10, 20}},
                          {.shape = {1, 1, 2, 1}, .dtype = DType::uint8, .values = {255, 3}},
                          {.shape = {1, 2, 4, 1}}},
                   .attrs = attrs(2, 2, "valid"),
                   .expected = {{0, 0, 0, 0, 0, 0, 0, 20}}},
                  {.in = {{.shape = {0, 1, 1, 1}}, {.shape = {0, 1, 1, 1}, .dtype = DType::uint8}, {.shape = {0, 1, 1, 1}}},
                   .attrs = attrs(1, 1, "valid"),
                   .expected = {{}}}},
     .shapes_from = 2}};
const RegisteredKernel max_grad_kernel{"MaxPoolGrad", "CPU", make_max_kernel<MaxPoolGradKernel>};

const Registered<Op> average_op{"AveragePool",
                                {.infer = infer_pool, .gradient = gradient_of_average, .examples = average_examples()}};
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
