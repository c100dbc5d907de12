// Convolutions by their definition: dilated, strided, in groups.
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

struct Geometry {
  std::int64_t stride, dilation, groups;
  bool same;

  explicit Geometry(const SweepCase& one)
      : stride(one.attrs.get<std::int64_t>("stride", 1)), dilation(one.attrs.get<std::int64_t>("dilation", 1)),
        groups(one.attrs.get<std::int64_t>("groups", 1)), same(one.attrs.get<std::string>("padding") == "same") {}

  [[nodiscard]] std::int64_t extent(std::int64_t window) const { return (window - 1) * dilation + 1; }
  [[nodiscard]] std::int64_t out(std::int64_t in, std::int64_t window) const {
    return same ? (in + stride - 1) / stride : (in - extent(window)) / stride + 1;
  }
  [[nodiscard]] std::int64_t before(std::int64_t in, std::int64_t window) const {
    return same ? std::max<std::int64_t>((out(in, window) - 1) * stride + extent(window) - in, 0) / 2 : 0;
  }
};

SweepCase drawn(Draw& draw) {
  SweepCase one;
  const std::int64_t groups = draw.chance(0.7) ? 1 : draw.size_above_0();
  const std::int64_t depth = draw.chance(0.3) && groups > 1 ? 1 : draw.size_above_0();          // channels of a group
  const std::int64_t filters = groups * (draw.chance(0.3) ? 1 : draw.size_above_0());
  const std::int64_t stride = draw.chance(0.6) ? 1 : draw.between(2, 4),
                     dilation = draw.chance(0.7) ? 1 : draw.between(2, 3);
  const Shape filter{draw.between(1, 5), draw.between(1, 5), depth, filters};
  const Shape x{draw.size(), draw.size_above_0(), draw.size_above_0(), groups * depth};
  const bool same = draw.chance();
  one.attrs = {{"padding", same ? "same" : "valid"}};
  if (stride > 1 || draw.chance()) one.attrs.set("stride", stride);
  if (dilation > 1 || draw.chance()) one.attrs.set("dilation", dilation);
  if (groups > 1 || draw.chance()) one.attrs.set("groups", groups);
  const Geometry g(one);
  for (const std::int64_t d : {1, 2}) draw.again_if(!same && x[d] < g.extent(filter[d - 1]));
  draw.work(static_cast<double>(x[0] * g.out(x[1], filter[0]) * g.out(x[2], filter[1]) * filter.elements()));
  one.in = {draw.floats(x), draw.floats(filter)};
  if (draw.chance()) one.in.push_back(draw.floats({filters}));
  return one;
}

std::vector<Result> convolution(const SweepCase& one, const std::vector<Scalars>& in) {
  const Geometry g(one);
  const Shape &x = one.in[0].shape, &filter = one.in[1].shape;
  const std::int64_t per_group = filter[3] / g.groups;
  Result y{{x[0], g.out(x[1], filter[0]), g.out(x[2], filter[1]), filter[3]}};
  for (std::int64_t i = 0; i < y.shape.elements(); ++i) {
    const Index at = index_of(y.shape, i);
    Scalar sum = in.size() == 3 ? in[2][at[3]] : Scalar(0);
    for (std::int64_t a = 0; a < filter[0]; ++a) {
      for (std::int64_t b = 0; b < filter[1]; ++b) {
        const std::int64_t row = at[1] * g.stride - g.before(x[1], filter[0]) + a * g.dilation;
        const std::int64_t column = at[2] * g.stride - g.before(x[2], filter[1]) + b * g.dilation;
        if (row < 0 || row >= x[1] || column < 0 || column >= x[2]) continue;
        for (std::int64_t k = 0; k < filter[2]; ++k) {
          sum += in[0][position_of(x, {at[0], row, column, at[3] / per_group * filter[2] + k})] *
                 in[1][position_of(filter, {a, b, k, at[3]})];
        }
      }
    }
    y.values.push_back(sum);
  }
  return {y};
}

const Registered<Sweep> conv{"Conv2D",
                             {.draw = drawn, .formula = convolution, .covers = {"Conv2DInputGrad", "Conv2DFilterGrad"}}};

}  // namespace
}  // namespace cohort::test
