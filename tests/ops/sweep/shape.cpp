// The same elements in another shape or another order.
#include <algorithm>
#include <numeric>

#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

using Numbers = std::vector<std::int64_t>;

/// Elements of any type.
Array elements(Draw& draw, const Shape& shape) {
  if (draw.chance(0.7)) return draw.floats(shape);
  const DType dtype = draw.one_of<DType>(
      {DType::float64, DType::float16, DType::bfloat16, DType::int32, DType::int64, DType::uint8, DType::boolean});
  return draw.whole(shape, dtype, 0, dtype == DType::boolean ? 1 : 100);
}

/// The dimensions of `shape` in other groups: neighbours merged, and ones put between them.
Shape regrouped(Draw& draw, const Shape& shape) {
  Shape result;
  std::int64_t group = 1;
  for (std::size_t d = 0; d < shape.rank(); ++d) {
    group *= shape[static_cast<std::int64_t>(d)];
    if (draw.chance() && d + 1 < shape.rank()) continue;
    if (draw.chance(0.2)) result.append(1);
    result.append(group);
    group = 1;
  }
  if (result.rank() == 0 && draw.chance()) result.append(1);
  return result;
}

std::vector<Result> same_elements(const Shape& shape, const std::vector<Scalars>& in) { return {{shape, in[0]}}; }

const Registered<Sweep> reshape{
    "Reshape",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(0, 4), y = regrouped(draw, x);
           Numbers wanted(y.begin(), y.end());
           std::int64_t rest = 1;
           const std::int64_t open = draw.chance() ? draw.below(std::max<std::int64_t>(1, std::ssize(wanted))) : -1;
           for (std::int64_t d = 0; d < std::ssize(wanted); ++d) rest *= d == open ? 1 : wanted[d];
           if (open >= 0 && open < std::ssize(wanted) && rest > 0) wanted[open] = -1;
           return SweepCase{.in = {elements(draw, x)}, .attrs = {{"shape", wanted}}, .known = true};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           auto wanted = one.attrs.get<Numbers>("shape");
           std::int64_t rest = 1;
           for (const std::int64_t size : wanted) rest *= size < 0 ? 1 : size;
           for (std::int64_t& size : wanted) size = size < 0 ? one.in[0].shape.elements() / rest : size;
           return same_elements(Shape{std::span<const std::int64_t>(wanted)}, in);
         },
     .covers = {"ReshapeLike"}}};

const Registered<Sweep> flatten{
    "Flatten", {.draw = [](Draw& draw) { return SweepCase{.in = {elements(draw, draw.shape(1, 4))}}; },
                .formula =
                    [](const SweepCase& one, const std::vector<Scalars>& in) {
                      const Shape& x = one.in[0].shape;
                      std::int64_t columns = 1;
                      for (std::size_t d = 1; d < x.rank(); ++d) columns *= x[static_cast<std::int64_t>(d)];
                      return same_elements({x[0], columns}, in);
                    }}};

const Registered<Sweep> reshape_like{
    "ReshapeLike",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(0, 4), like = regrouped(draw, x);
           return SweepCase{.in = {elements(draw, x), draw.floats(like)}};
         },
     .formula = [](const SweepCase& one, const std::vector<Scalars>& in) { return same_elements(one.in[1].shape, in); }}};

const Registered<Sweep> transpose{
    "Transpose",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(0, draw.chance(0.8) ? 4 : 6);
           Numbers permutation(x.rank());
           std::iota(permutation.begin(), permutation.end(), 0);
           for (std::int64_t d = std::ssize(permutation); d > 1; --d)
             std::swap(permutation[d - 1], permutation[draw.below(d)]);
           return SweepCase{.in = {elements(draw, x)}, .attrs = {{"permutation", permutation}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& x = one.in[0].shape;
           const auto& permutation = one.attrs.get<Numbers>("permutation");
           Result y;
           for (const std::int64_t d : permutation) y.shape.append(x[d]);
           for (std::int64_t i = 0; i < y.shape.elements(); ++i) {
             const Index to = index_of(y.shape, i);
             Index from(x.rank());
             for (std::size_t d = 0; d < from.size(); ++d) from[permutation[d]] = to[d];
             y.values.push_back(in[0][position_of(x, from)]);
           }
           return std::vector<Result>{y};
         }}};

}  // namespace
}  // namespace cohort::test
