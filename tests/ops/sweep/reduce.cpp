// Reductions over any set of axes, their ways back, and the position of the maximum.
#include <algorithm>

#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

using Axes = std::vector<std::int64_t>;

/// Which dimensions go: an empty list names them all.
std::vector<bool> reduced(const SweepCase& one, std::size_t rank) {
  const auto& axes = one.attrs.get<Axes>("axes");
  std::vector<bool> flags(rank, axes.empty());
  for (const std::int64_t axis : axes) flags[axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis] = true;
  return flags;
}

SweepCase drawn(Draw& draw, bool max) {
  const Shape shape = draw.shape(0, draw.chance(0.8) ? 3 : 6);
  const auto rank = static_cast<std::int64_t>(shape.rank());
  Axes axes;
  for (std::int64_t d = 0; d < rank; ++d) {
    if (draw.chance()) axes.push_back(draw.chance() ? d : d - rank);
  }
  if (draw.chance() && !axes.empty()) std::reverse(axes.begin(), axes.end());
  SweepCase one{.in = {draw.floats(shape)}, .attrs = {{"axes", axes}, {"keep_dims", draw.chance()}}};
  if (!max) return one;
  if (draw.chance(0.2)) one.in[0] = draw.whole(shape, DType::float32, -2, 2);
  const std::vector<bool> flags = reduced(one, shape.rank());
  for (std::int64_t d = 0; d < rank; ++d) draw.again_if(flags[d] && shape[d] == 0);   // refused
  if (draw.with_nan(one.in[0])) one.gradients = false;
  return one;
}

/// join(the elements that come together) for each result.
template <class Join>
auto over_axes(Join join) {
  return [join](const SweepCase& one, const std::vector<Scalars>& in) {
    const Shape& x = one.in[0].shape;
    const std::vector<bool> flags = reduced(one, x.rank());
    Shape kept, shape;
    for (std::size_t d = 0; d < x.rank(); ++d) {
      const std::int64_t size = x[static_cast<std::int64_t>(d)];
      kept.append(flags[d] ? 1 : size);
      if (!flags[d]) shape.append(size);
    }
    std::vector<Scalars> parts(static_cast<std::size_t>(kept.elements()));
    for (std::int64_t i = 0; i < x.elements(); ++i) parts[broadcast_position(kept, index_of(x, i))].push_back(in[0][i]);
    Result y{one.attrs.get<bool>("keep_dims") ? kept : shape};
    for (const Scalars& part : parts) y.values.push_back(join(part));
    return std::vector<Result>{y};
  };
}

Scalar sum_of(const Scalars& x) {
  Scalar sum;
  for (const Scalar& value : x) sum += value;
  return sum;
}
Scalar mean_of(const Scalars& x) { return sum_of(x) / static_cast<double>(x.size()); }
/// Equal maxima share the gradient.
Scalar max_of(const Scalars& x) {
  Scalars best;
  for (const Scalar& value : x) {
    if (std::isnan(value.value())) return kNotANumber;
    if (!best.empty() && value.value() < best[0].value()) continue;
    if (!best.empty() && value.value() > best[0].value()) best.clear();
    best.push_back(value);
  }
  return mean_of(best);
}

Sweep reduction(Scalar (*join)(const Scalars&), bool max) {
  return {.draw = [max](Draw& draw) { return drawn(draw, max); }, .formula = over_axes(join)};
}
const Registered<Sweep> reductions[]{{"ReduceSum", reduction(sum_of, false)},
                                     {"ReduceMean", reduction(mean_of, false)},
                                     {"ReduceMax", reduction(max_of, true)}};

const Registered<Sweep> sum_like{
    "SumLike",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(0, 4);
           return SweepCase{.in = {draw.floats(x), draw.floats(draw_broadcast(draw, x))}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& x = one.in[0].shape;
           Result y{one.in[1].shape, zeros(one.in[1].shape)};
           for (std::int64_t i = 0; i < x.elements(); ++i) y.values[broadcast_position(y.shape, index_of(x, i))] += in[0][i];
           return std::vector<Result>{y};
         }}};

/// With axes: what a reduction over them leaves; without: anything that broadcasts.
SweepCase drawn_expansion(Draw& draw) {
  const Shape like = draw.shape(0, 4);
  const bool keep = draw.chance();
  Axes axes;
  Shape x;
  for (std::int64_t d = 0; d < static_cast<std::int64_t>(like.rank()); ++d) {
    const bool goes = draw.chance();
    if (goes) axes.push_back(d);
    if (!goes || keep) x.append(goes ? 1 : like[d]);
  }
  if (axes.empty() || (keep && draw.chance(0.3))) {
    axes.clear();
    x = draw_broadcast(draw, like);
  }
  draw.work(static_cast<double>(like.elements()));
  const bool average = (!axes.empty() || x == like) && draw.chance();
  return {.in = {draw.floats(x), draw.floats(like)},
          .attrs = {{"axes", axes}, {"keep_dims", axes.empty() || keep}, {"average", average}},
          .gradients = !average || like.elements() > 0};       // a mean over nothing is NaN
}

std::vector<Result> expanded(const SweepCase& one, const std::vector<Scalars>& in) {
  const Shape &x = one.in[0].shape, &like = one.in[1].shape;
  Shape kept = x;
  if (!one.attrs.get<bool>("keep_dims")) {
    for (const std::int64_t axis : one.attrs.get<Axes>("axes")) kept.insert(static_cast<std::size_t>(axis), 1);
  }
  const double copies =
      one.attrs.get<bool>("average") ? static_cast<double>(like.elements()) / static_cast<double>(x.elements()) : 1;
  Result y{like};
  for (std::int64_t i = 0; i < like.elements(); ++i)
    y.values.push_back(in[0][broadcast_position(kept, index_of(like, i))] / copies);
  return {y};
}
const Registered<Sweep> expand_like{"ExpandLike", {.draw = drawn_expansion, .formula = expanded}};

const Registered<Sweep> argmax{
    "ArgMax",
    {.draw =
         [](Draw& draw) {
           const Shape shape = draw.shape(1, 4);
           const std::int64_t axis = draw.axis(shape.rank());
           draw.again_if(shape[axis] == 0);
           SweepCase one{.in = {draw.chance(0.3) ? draw.whole(shape, DType::float32, -2, 2) : draw.floats(shape)},
                         .attrs = {{"axis", axis}}};
           draw.with_nan(one.in[0]);
           return one;
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& x = one.in[0].shape;
           const std::int64_t named = one.attrs.get<std::int64_t>("axis");
           const std::size_t axis = named < 0 ? named + x.rank() : named;
           Shape shape = x;
           shape.erase(axis);
           Result y{shape};
           for (std::int64_t i = 0; i < shape.elements(); ++i) {
             Index index = index_of(shape, i);
             index.insert(index.begin() + static_cast<std::ptrdiff_t>(axis), 0);
             const auto at = [&](std::int64_t k) {
               index[axis] = k;
               return in[0][position_of(x, index)].value();
             };
             std::int64_t best = 0;
             for (std::int64_t k = 1; k < x[static_cast<std::int64_t>(axis)]; ++k) {
               if (at(k) > at(best) || (std::isnan(at(k)) && !std::isnan(at(best)))) best = k;
             }
             y.values.emplace_back(static_cast<double>(best));
           }
           return std::vector<Result>{y};
         }}};

}  // namespace
}  // namespace cohort::test
