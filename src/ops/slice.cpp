// Parts of tensors: cut out, padded, joined, split. Each kernel is a list of box copies that is made once. Where a gradient
// needs a size that may be unknown in the graph, it takes it from the value it belongs to (…Like, ConcatGrad).
#include <algorithm>
#include <cstdint>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/box_copy.hpp"

namespace cohort {
namespace {

using Numbers = std::vector<std::int64_t>;

/// The numbers of attribute `name`, one per dimension of input 0 and none negative (but -1 if `open`).
const Numbers& per_dimension(const Inference& c, std::string_view name, bool open = false) {
  const auto& numbers = c.attrs.get<Numbers>(name);
  const std::string text = std::string(name) + " " + Attr(numbers).text();
  if (numbers.size() != c.shape(0).rank()) c.refuse(text + " must have one number per dimension of input 0");
  for (const std::int64_t number : numbers) {
    if (number < (open ? -1 : 0)) c.refuse(text + " has a negative number");
  }
  return numbers;
}

std::int64_t at(std::size_t d) { return static_cast<std::int64_t>(d); }

/// The size of the part from `begin` on; `size` -1: to the end.
Shape part_shape(const Inference& c, const Numbers& begin, const Numbers& size) {
  const Shape& x = c.shape(0);
  Shape result;
  for (std::size_t d = 0; d < x.rank(); ++d) {
    const std::int64_t length = x[at(d)];
    if (length != Shape::kUnknown && begin[d] + std::max<std::int64_t>(size[d], 0) > length) {
      c.refuse("the part from " + Attr(begin).text() + " of size " + Attr(size).text() + " is not inside input 0");
    }
    result.append(size[d] >= 0 ? size[d] : length == Shape::kUnknown ? Shape::kUnknown : length - begin[d]);
  }
  return result;
}

/// The part of input 0 at `begin` that has the output's size.
class SliceKernel final : public Kernel {
 public:
  explicit SliceKernel(const NodeInfo& info)
      : copy_(size_of(info.in[0].dtype), info.out[0].shape, info.in[0].shape, info.attrs.get<Numbers>("begin"),
              info.out[0].shape, {}) {}
  void run(KernelContext& c) override { copy_.run(c.pool(), c.in(0).raw(), c.out().raw()); }

 private:
  BoxCopy copy_;
};

/// Input 0 at `begin` inside an output full of one value.
template <class T>
class PadKernel final : public Kernel {
 public:
  PadKernel(const NodeInfo& info, const Numbers& begin, double value)
      : copy_(sizeof(T), info.in[0].shape, info.in[0].shape, {}, info.out[0].shape, begin) {
    if constexpr (std::is_class_v<T>) value_ = T(static_cast<float>(value));
    else value_ = static_cast<T>(value);
  }

  void run(KernelContext& c) override {
    T* y = c.out().template data<T>();
    c.pool().parallel_for(c.out().elements(), 16384, [&](std::int64_t begin, std::int64_t end) {
      std::fill(y + begin, y + end, value_);
    });
    copy_.run(c.pool(), c.in(0).raw(), y);
  }

 private:
  BoxCopy copy_;
  T value_;
};

std::unique_ptr<Kernel> make_pad(const NodeInfo& info, std::string_view begin, double value) {
  return dispatch(info.in[0].dtype, [&]<class T>() -> std::unique_ptr<Kernel> {
    return std::make_unique<PadKernel<T>>(info, info.attrs.get<Numbers>(begin), value);
  });
}

Example slice_example(const Shape& shape, Numbers begin, Numbers size) {
  return {.in = {{.shape = shape}}, .attrs = {{"begin", std::move(begin)}, {"size", std::move(size)}}};
}

const Registered<Op> slice_op{
    "Slice",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(1);
       return {{c.in(0).dtype, part_shape(c, per_dimension(c, "begin"), per_dimension(c, "size", true))}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("PadLike", {b.dy(), b.x(0)}, {{"begin", b.attrs.get<Numbers>("begin")}})};
     },
     .examples = {slice_example({4, 5}, {1, 2}, {2, 3}), slice_example({4, 5}, {2, 0}, {-1, -1}),
                  slice_example({3, 4, 5}, {0, 1, 0}, {3, 2, 5}), slice_example({2, 3, 2, 5}, {1, 0, 1, 2}, {1, 3, 1, -1}),
                  slice_example({7}, {7}, {-1}), slice_example({}, {}, {})}}};
const RegisteredKernel slice_kernel{"Slice", "CPU", make_kernel<SliceKernel>};

/// SliceLike(x, like){begin}: the part of x at `begin` that has like's shape.
const Registered<Op> slice_like_op{
    "SliceLike",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(2);
       c.expect_rank(1, c.shape(0).rank());
       const Shape& like = c.shape(1);
       part_shape(c, per_dimension(c, "begin"), Numbers(like.begin(), like.end()));
       return {{c.in(0).dtype, like}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("PadLike", {b.dy(), b.x(0)}, b.attrs), {}};
     },
     .examples = {{.in = {{.shape = {4, 5}}, {.shape = {2, 3}}}, .attrs = {{"begin", Numbers{1, 2}}}},
                  {.in = {{.shape = {4, 5}}, {.shape = {0, 3}}}, .attrs = {{"begin", Numbers{1, 0}}}}},
     .shapes_from = 1}};
const RegisteredKernel slice_like_kernel{"SliceLike", "CPU", make_kernel<SliceKernel>};

/// PadLike(x, like){begin}: x at `begin` in zeros of like's shape.
const Registered<Op> pad_like_op{
    "PadLike",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(2);
       c.expect_rank(1, c.shape(0).rank());
       const auto& begin = per_dimension(c, "begin");
       for (std::size_t d = 0; d < begin.size(); ++d) {
         const std::int64_t x = c.shape(0)[at(d)], like = c.shape(1)[at(d)];
         if (like != Shape::kUnknown && begin[d] + std::max<std::int64_t>(x, 0) > like) {
           c.refuse("input 0 at " + Attr(begin).text() + " does not fit into the shape of input 1");
         }
       }
       return {{c.in(0).dtype, c.shape(1)}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("SliceLike", {b.dy(), b.x(0)}, b.attrs), {}};
     },
     .examples = {{.in = {{.shape = {2, 3}}, {.shape = {4, 5}}}, .attrs = {{"begin", Numbers{1, 2}}}},
                  {.in = {{.shape = {0, 3}}, {.shape = {4, 3}}}, .attrs = {{"begin", Numbers{1, 0}}}}},
     .shapes_from = 1}};
const RegisteredKernel pad_like_kernel{"PadLike", "CPU", [](const NodeInfo& info) { return make_pad(info, "begin", 0); }};

Example pad_example(const Shape& shape, Numbers before, Numbers after, double value) {
  return {.in = {{.shape = shape}}, .attrs = {{"before", std::move(before)}, {"after", std::move(after)}, {"value", value}}};
}

const Registered<Op> pad_op{
    "Pad",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(1);
       const Numbers &before = per_dimension(c, "before"), &after = per_dimension(c, "after");
       Shape result;
       for (std::size_t d = 0; d < before.size(); ++d) {
         const std::int64_t size = c.shape(0)[at(d)];
         result.append(size == Shape::kUnknown ? size : before[d] + size + after[d]);
       }
       return {{c.in(0).dtype, result}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("SliceLike", {b.dy(), b.x(0)}, {{"begin", b.attrs.get<Numbers>("before")}})};
     },
     .examples = {pad_example({2, 3}, {1, 0}, {0, 2}, 0), pad_example({2, 3, 2, 1}, {0, 1, 1, 0}, {0, 1, 2, 0}, 0.5),
                  pad_example({0, 2}, {1, 0}, {1, 1}, -1), pad_example({5}, {0}, {0}, 7)}}};
const RegisteredKernel pad_kernel{
    "Pad", "CPU",
    [](const NodeInfo& info) { return make_pad(info, "before", info.attrs.get("value", 0.0)); }};

// Along one axis: Concat and its way back, Split.

std::size_t axis_of(const Attrs& attrs, const Shape& shape) {
  const std::int64_t axis = attrs.get<std::int64_t>("axis");
  return static_cast<std::size_t>(axis < 0 ? axis + at(shape.rank()) : axis);
}

/// The whole and its parts, which lie in it one after another along one axis.
template <class PartShape>
std::vector<BoxCopy> part_copies(std::size_t element, const Shape& whole, const Attrs& attrs, std::size_t parts,
                                 PartShape part, bool join) {
  const std::size_t axis = axis_of(attrs, whole);
  std::vector<BoxCopy> copies;
  Numbers begin(whole.rank(), 0);
  for (std::size_t i = 0; i < parts; ++i) {
    const Shape& shape = part(i);
    if (join) copies.emplace_back(element, shape, shape, BoxCopy::Position{}, whole, begin);
    else copies.emplace_back(element, shape, whole, begin, shape, BoxCopy::Position{});
    begin[axis] += shape[at(axis)];
  }
  return copies;
}

class ConcatKernel final : public Kernel {
 public:
  explicit ConcatKernel(const NodeInfo& info)
      : copies_(part_copies(size_of(info.in[0].dtype), info.out[0].shape, info.attrs, info.in.size(),
                            [&](std::size_t i) -> const Shape& { return info.in[i].shape; }, true)) {}
  void run(KernelContext& c) override {
    for (std::size_t i = 0; i < copies_.size(); ++i) copies_[i].run(c.pool(), c.in(i).raw(), c.out().raw());
  }

 private:
  std::vector<BoxCopy> copies_;
};

/// Input 0 cut into the outputs.
class SplitKernel final : public Kernel {
 public:
  explicit SplitKernel(const NodeInfo& info)
      : copies_(part_copies(size_of(info.in[0].dtype), info.in[0].shape, info.attrs, info.out.size(),
                            [&](std::size_t i) -> const Shape& { return info.out[i].shape; }, false)) {}
  void run(KernelContext& c) override {
    for (std::size_t i = 0; i < copies_.size(); ++i) copies_[i].run(c.pool(), c.in(0).raw(), c.out(i).raw());
  }

 private:
  std::vector<BoxCopy> copies_;
};

/// The shape of inputs first, first + 1, … side by side.
Shape joined_shape(const Inference& c, std::size_t first) {
  const std::size_t axis = c.axis(first, c.attrs.get<std::int64_t>("axis"));
  Shape result = c.in(first).shape;
  for (std::size_t i = first + 1; i < c.inputs(); ++i) {
    c.expect_same_dtype(first, i);
    c.expect_rank(i, result.rank());
    for (std::size_t d = 0; d < result.rank(); ++d) {
      const std::int64_t have = result[at(d)], more = c.shape(i)[at(d)];
      const bool unknown = have == Shape::kUnknown || more == Shape::kUnknown;
      if (d == axis) result.set(at(d), unknown ? Shape::kUnknown : have + more);
      else if (have == Shape::kUnknown) result.set(at(d), more);
      else if (!unknown && have != more) {
        const std::string inputs = std::to_string(first) + " and " + std::to_string(i);
        c.refuse("inputs " + inputs + " differ in dimension " + std::to_string(d) + ", which is not the axis");
      }
    }
  }
  return result;
}

Example concat_example(const std::vector<Shape>& shapes, std::int64_t axis) {
  Example example{.attrs = {{"axis", axis}}};
  for (const Shape& shape : shapes) example.in.push_back({.shape = shape});
  return example;
}

const Registered<Op> concat_op{
    "Concat",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       return {{c.in(0).dtype, joined_shape(c, 0)}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       std::vector<Value> inputs{b.dy()}, dx;
       for (std::size_t i = 0; i < b.inputs(); ++i) inputs.push_back(b.x(i));
       const Node parts = b.graph.add("ConcatGrad", inputs, b.attrs);
       for (std::size_t i = 0; i < b.inputs(); ++i) dx.push_back(parts[static_cast<int>(i)]);
       return dx;
     },
     .examples = {concat_example({{2, 3}, {4, 3}}, 0), concat_example({{2, 3}, {2, 1}, {2, 4}}, -1),
                  concat_example({{2, 1, 3}, {2, 5, 3}}, 1), concat_example({{0, 3}, {2, 3}}, 0),
                  concat_example({{5}}, 0), concat_example({{0, 2}, {0, 3}}, 1)}}};
const RegisteredKernel concat_kernel{"Concat", "CPU", make_kernel<ConcatKernel>};

/// ConcatGrad(dy, parts …){axis}: dy cut into pieces of the parts' shapes.
const Registered<Op> concat_grad_op{
    "ConcatGrad",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       if (!compatible(joined_shape(c, 1), c.shape(0))) {
         c.refuse("input 0 has not the shape of the other inputs joined");
       }
       std::vector<Signature> result;
       for (std::size_t i = 1; i < c.inputs(); ++i) result.push_back({c.in(0).dtype, c.shape(i)});
       return result;
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       std::vector<Value> parts, dx(b.inputs());
       for (std::size_t i = 0; i + 1 < b.inputs(); ++i) parts.push_back(b.dy(i));
       dx[0] = concat(parts, b.attrs.get<std::int64_t>("axis"));
       return dx;
     },
     .examples = {concat_example({{2, 5}, {2, 3}, {2, 2}}, 1)},
     .shapes_from = 1}};
const RegisteredKernel concat_grad_kernel{"ConcatGrad", "CPU", make_kernel<SplitKernel>};

std::vector<Signature> infer_split(const Inference& c) {
  c.expect_inputs(1);
  const std::int64_t parts = c.attrs.get<std::int64_t>("parts");
  Signature part = c.in(0);
  const std::int64_t axis = at(c.axis(0, c.attrs.get<std::int64_t>("axis"))), size = part.shape[axis];
  if (parts < 1) c.refuse("cannot be split into " + std::to_string(parts) + " parts");
  if (size != Shape::kUnknown) {
    if (size % parts != 0) {
      c.refuse("dimension " + std::to_string(axis) + " cannot be split into " + std::to_string(parts) + " equal parts");
    }
    part.shape.set(axis, size / parts);
  }
  return {static_cast<std::size_t>(parts), part};
}

Example split_example(const Shape& shape, std::int64_t parts, std::int64_t axis) {
  return {.in = {{.shape = shape}}, .attrs = {{"parts", parts}, {"axis", axis}}};
}

const Registered<Op> split_op{
    "Split",
    {.infer = infer_split,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       std::vector<Value> parts;
       const std::int64_t n = b.attrs.get<std::int64_t>("parts");
       for (std::int64_t i = 0; i < n; ++i) parts.push_back(b.dy(static_cast<std::size_t>(i)));
       return {concat(parts, b.attrs.get<std::int64_t>("axis"))};
     },
     .examples = {split_example({4, 6}, 3, 1), split_example({4, 3}, 2, 0), split_example({2, 4, 3}, 4, -2),
                  split_example({3, 2}, 1, 0), split_example({0, 4}, 2, 1)}}};
const RegisteredKernel split_kernel{"Split", "CPU", make_kernel<SplitKernel>};

}  // namespace
}  // namespace cohort
