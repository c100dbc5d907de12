// Parts of arrays: cut out, padded, joined, split.
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

using Numbers = std::vector<std::int64_t>;

std::int64_t at(std::size_t d) { return static_cast<std::int64_t>(d); }

/// A part of `whole` at a begin of its own.
struct Part {
  Numbers begin;
  Shape shape;
};
Part part_of(Draw& draw, const Shape& whole) {
  Part part;
  for (const std::int64_t size : whole) {
    const std::int64_t begin = draw.chance(0.3) ? 0 : draw.between(0, size);
    part.begin.push_back(begin);
    part.shape.append(draw.chance(0.3) ? size - begin : draw.between(0, size - begin));
  }
  return part;
}

Array elements(Draw& draw, const Shape& shape) {
  return draw.chance(0.8)
             ? draw.floats(shape)
             : draw.whole(shape, draw.one_of<DType>({DType::int32, DType::uint8, DType::bfloat16, DType::int64}), 0, 99);
}

/// The part of x at `begin`.
Result cut(const Shape& whole, const Scalars& x, const Shape& shape, const Numbers& begin) {
  Result y{shape};
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    Index index = index_of(shape, i);
    for (std::size_t d = 0; d < index.size(); ++d) index[d] += begin[d];
    y.values.push_back(x[position_of(whole, index)]);
  }
  return y;
}
/// Puts x at `begin` of y.
void place(Result& y, const Shape& shape, const Scalars& x, const Numbers& begin) {
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    Index index = index_of(shape, i);
    for (std::size_t d = 0; d < index.size(); ++d) index[d] += begin[d];
    y.values[position_of(y.shape, index)] = x[i];
  }
}

const Registered<Sweep> slice{
    "Slice",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(0, 4);
           const Part part = part_of(draw, x);
           Numbers size(part.shape.begin(), part.shape.end());
           for (std::size_t d = 0; d < size.size(); ++d) {
             if (part.begin[d] + size[d] == x[at(d)] && draw.chance()) size[d] = -1;     // to the end
           }
           return SweepCase{.in = {elements(draw, x)}, .attrs = {{"begin", part.begin}, {"size", size}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const auto &begin = one.attrs.get<Numbers>("begin"), &size = one.attrs.get<Numbers>("size");
           Shape shape;
           for (std::size_t d = 0; d < size.size(); ++d)
             shape.append(size[d] < 0 ? one.in[0].shape[at(d)] - begin[d] : size[d]);
           return std::vector<Result>{cut(one.in[0].shape, in[0], shape, begin)};
         },
     .covers = {"PadLike"}}};

const Registered<Sweep> slice_like{
    "SliceLike",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(0, 4);
           const Part part = part_of(draw, x);
           return SweepCase{.in = {elements(draw, x), draw.floats(part.shape)}, .attrs = {{"begin", part.begin}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           return std::vector<Result>{cut(one.in[0].shape, in[0], one.in[1].shape, one.attrs.get<Numbers>("begin"))};
         }}};

const Registered<Sweep> pad_like{
    "PadLike",
    {.draw =
         [](Draw& draw) {
           const Shape like = draw.shape(0, 4);
           const Part part = part_of(draw, like);
           return SweepCase{.in = {elements(draw, part.shape), draw.floats(like)}, .attrs = {{"begin", part.begin}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           Result y{one.in[1].shape, zeros(one.in[1].shape)};
           place(y, one.in[0].shape, in[0], one.attrs.get<Numbers>("begin"));
           return std::vector<Result>{y};
         },
     .covers = {"SliceLike"}}};

const Registered<Sweep> pad{
    "Pad",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(0, 4);
           Numbers before, after;
           double elements_of_result = 1;
           for (std::size_t d = 0; d < x.rank(); ++d) {
             for (Numbers* side : {&before, &after}) side->push_back(draw.chance() ? 0 : draw.between(1, 9));
             elements_of_result *= static_cast<double>(x[at(d)] + before[d] + after[d]);
           }
           draw.work(elements_of_result);
           SweepCase one{.in = {elements(draw, x)}, .attrs = {{"before", before}, {"after", after}}};
           if (draw.chance()) one.attrs.set("value", static_cast<double>(draw.between(0, 9)));
           return one;
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const auto &before = one.attrs.get<Numbers>("before"), &after = one.attrs.get<Numbers>("after");
           Result y;
           for (std::size_t d = 0; d < before.size(); ++d) y.shape.append(before[d] + one.in[0].shape[at(d)] + after[d]);
           y.values.assign(static_cast<std::size_t>(y.shape.elements()), one.attrs.get("value", 0.0));
           place(y, one.in[0].shape, in[0], before);
           return std::vector<Result>{y};
         },
     .covers = {"SliceLike"}}};

std::size_t axis_of(const SweepCase& one, std::size_t rank) {
  const std::int64_t axis = one.attrs.get<std::int64_t>("axis");
  return axis < 0 ? axis + rank : axis;
}

/// Sizes along an axis of one array, and the arrays it is cut into.
std::vector<Shape> parts_along(Draw& draw, std::int64_t axis) {
  std::vector<Shape> parts;
  Shape part = draw.shape(1, 4);
  const auto rank = static_cast<std::int64_t>(part.rank());
  for (std::int64_t n = draw.between(1, 4); n > 0; --n) {
    part.set(axis % rank, draw.size());
    parts.push_back(part);
  }
  return parts;
}

const Registered<Sweep> concat{
    "Concat",
    {.draw =
         [](Draw& draw) {
           std::int64_t axis = draw.below(4);
           const std::vector<Shape> parts = parts_along(draw, axis);
           const auto rank = static_cast<std::int64_t>(parts[0].rank());
           axis = axis % rank - (draw.chance() ? rank : 0);
           SweepCase one{.attrs = {{"axis", axis}}};
           const bool floats = draw.chance(0.8);
           for (const Shape& part : parts)
             one.in.push_back(floats ? draw.floats(part) : draw.whole(part, DType::uint8, 0, 99));
           return one;
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           Shape shape = one.in[0].shape;
           const std::size_t axis = axis_of(one, shape.rank());
           std::int64_t size = 0;
           for (const Array& part : one.in) size += part.shape[at(axis)];
           shape.set(at(axis), size);
           Result y{shape, zeros(shape)};
           Numbers begin(shape.rank(), 0);
           for (std::size_t i = 0; i < in.size(); ++i) {
             place(y, one.in[i].shape, in[i], begin);
             begin[axis] += one.in[i].shape[at(axis)];
           }
           return std::vector<Result>{y};
         },
     .covers = {"ConcatGrad"}}};

const Registered<Sweep> concat_grad{
    "ConcatGrad",
    {.draw =
         [](Draw& draw) {
           const std::int64_t wanted = draw.below(4);
           const std::vector<Shape> parts = parts_along(draw, wanted);
           Shape whole = parts[0];
           const std::int64_t axis = wanted % static_cast<std::int64_t>(whole.rank());
           for (std::size_t i = 1; i < parts.size(); ++i) whole.set(axis, whole[axis] + parts[i][axis]);
           SweepCase one{.in = {draw.floats(whole)}, .attrs = {{"axis", axis}}};
           for (const Shape& part : parts) one.in.push_back(draw.floats(part));
           return one;
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& whole = one.in[0].shape;
           const std::size_t axis = axis_of(one, whole.rank());
           std::vector<Result> parts;
           Numbers begin(whole.rank(), 0);
           for (std::size_t i = 1; i < in.size(); ++i) {
             parts.push_back(cut(whole, in[0], one.in[i].shape, begin));
             begin[axis] += one.in[i].shape[at(axis)];
           }
           return parts;
         }}};

const Registered<Sweep> split{
    "Split",
    {.draw =
         [](Draw& draw) {
           Shape x = draw.shape(1, 4);
           const std::int64_t axis = draw.axis(x.rank()), parts = draw.between(1, 5);
           x.set(axis, draw.between(0, 9) * parts);
           return SweepCase{.in = {elements(draw, x)}, .attrs = {{"axis", axis}, {"parts", parts}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& x = one.in[0].shape;
           const std::size_t axis = axis_of(one, x.rank());
           const std::int64_t n = one.attrs.get<std::int64_t>("parts");
           Shape part = x;
           part.set(at(axis), x[at(axis)] / n);
           std::vector<Result> parts;
           Numbers begin(x.rank(), 0);
           for (std::int64_t i = 0; i < n; ++i) {
             parts.push_back(cut(x, in[0], part, begin));
             begin[axis] += part[at(axis)];
           }
           return parts;
         },
     .covers = {"Concat"}}};

}  // namespace
}  // namespace cohort::test
