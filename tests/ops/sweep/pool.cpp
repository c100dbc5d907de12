// Pooling: windows by their definition, one multi-index after another. The gradient goes to the first of the largest, which
// is NaN where there is one.
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

struct Windows {
  std::int64_t size, stride;
  bool same;

  explicit Windows(const SweepCase& one)
      : size(one.attrs.get<std::int64_t>("size")), stride(one.attrs.get<std::int64_t>("stride")),
        same(one.attrs.get<std::string>("padding") == "same") {}

  [[nodiscard]] std::int64_t out(std::int64_t in) const {
    return same ? (in + stride - 1) / stride : (in - size) / stride + 1;
  }
  [[nodiscard]] std::int64_t before(std::int64_t in) const {
    return same ? std::max<std::int64_t>((out(in) - 1) * stride + size - in, 0) / 2 : 0;
  }
  [[nodiscard]] Shape result(const Shape& x) const { return {x[0], out(x[1]), out(x[2]), x[3]}; }

  /// f(position in x, number in the window) for the pixels of a window that are inside the image.
  template <class F>
  void for_pixels(const Shape& x, const Index& y, F f) const {
    for (std::int64_t a = 0; a < size; ++a) {
      for (std::int64_t b = 0; b < size; ++b) {
        const std::int64_t row = y[1] * stride - before(x[1]) + a, column = y[2] * stride - before(x[2]) + b;
        if (row < 0 || row >= x[1] || column < 0 || column >= x[2]) continue;
        f(position_of(x, {y[0], row, column, y[3]}), a * size + b);
      }
    }
  }
};

SweepCase drawn(Draw& draw, bool max) {
  // Windows that tile the image, and channels of every remainder, more often than chance would have it.
  const std::int64_t size = draw.chance(0.95) ? draw.between(1, 5) : draw.between(14, 17);
  const std::int64_t stride = draw.chance() ? size : draw.between(1, 5);
  const bool same = draw.chance();
  Shape x{draw.size(), draw.size_above_0(), draw.size_above_0(), draw.size()};
  for (const std::int64_t d : {1, 2}) {
    if (draw.chance(0.3)) x.set(d, size * draw.between(1, 4));
    draw.again_if(!same && x[d] < size);
  }
  SweepCase one{.attrs = {{"size", size}, {"stride", stride}, {"padding", same ? "same" : "valid"}}};
  draw.work(static_cast<double>(Windows(one).result(x).elements() * size * size));
  one.in.push_back(draw.floats(x));
  if (!max) return one;
  if (draw.chance(0.2)) one.in[0] = draw.whole(x, DType::float32, -2, 2);      // many equal ones
  draw.with_nan(one.in[0]);
  if (draw.chance()) one.attrs.set("relu", draw.chance());
  return one;
}

std::vector<Result> largest(const SweepCase& one, const std::vector<Scalars>& in) {
  const Windows windows(one);
  const Shape &x = one.in[0].shape, shape = windows.result(x);
  const bool relu = one.attrs.get("relu", false);
  const double nowhere = windows.size * windows.size < 255 ? 255 : 2147483647;
  Result y{shape}, index{shape};
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    const Scalar* best = nullptr;
    double at = 0;
    windows.for_pixels(x, index_of(shape, i), [&](std::int64_t pixel, std::int64_t number) {
      const Scalar& value = in[0][pixel];
      const bool more =
          best == nullptr || value.value() > best->value() || (std::isnan(value.value()) && !std::isnan(best->value()));
      if (!more) return;
      best = &value;
      at = static_cast<double>(number);
    });
    const bool off = relu && best->value() <= 0;
    y.values.push_back(off ? Scalar(0) : *best);
    index.values.emplace_back(off ? nowhere : at);
  }
  return {y, index};
}

std::vector<Result> mean(const SweepCase& one, const std::vector<Scalars>& in) {
  const Windows windows(one);
  const Shape &x = one.in[0].shape, shape = windows.result(x);
  Result y{shape};
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    Scalar sum;
    double count = 0;
    windows.for_pixels(x, index_of(shape, i), [&](std::int64_t pixel, std::int64_t) {
      sum += in[0][pixel];
      ++count;
    });
    y.values.push_back(sum / count);
  }
  return {y};
}

const Registered<Sweep> max_pool{"MaxPool",
                                 {.draw = [](Draw& draw) { return drawn(draw, true); },
                                  .formula = largest,
                                  .covers = {"MaxPoolGrad"},
                                  .tolerance = 2e-6}};
const Registered<Sweep> average_pool{"AveragePool",
                                     {.draw = [](Draw& draw) { return drawn(draw, false); }, .formula = mean,
                                      .covers = {"AveragePoolGrad"}, .tolerance = 2e-6}};

}  // namespace
}  // namespace cohort::test
