// Reductions over any set of axes, and their way back. The split of the work depends on the shapes alone, never on the
// number of threads, so results are the same bits with any number of them.
#include <cstring>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/broadcast.hpp"
#include "ops/lanes.hpp"

namespace cohort {
namespace {

using Flags = std::array<bool, Shape::kMaxRank>;
using Axes = std::vector<std::int64_t>;

constexpr std::int64_t kTile = 512;            // columns whose accumulators stay in the first-level cache
constexpr std::int64_t kRowPiece = 32768;      // elements of one row that one unit of work joins
constexpr std::int64_t kUnits = 64;            // units of work worth having: enough for any number of threads

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// An array [a, r, b] joined over its middle dimension, in `pieces` of `piece` rows that are joined at the end.
struct Stage {
  std::int64_t a, r, b, piece, pieces;

  Stage(std::int64_t outer, std::int64_t rows, std::int64_t inner) : a(outer), r(rows), b(inner), piece(rows), pieces(1) {
    if (a == 0 || r * b <= 2 * kRowPiece) return;
    const std::int64_t units = a * ceil_div(b, kTile);
    if (b == 1) piece = kRowPiece;
    else if (units < kUnits) piece = std::max<std::int64_t>(64, ceil_div(r, ceil_div(kUnits, units)));
    pieces = ceil_div(r, piece);
  }
};

template <class Join, class In>
void join_rows(const In* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, typename Join::Acc* y) {
  using Acc = typename Join::Acc;
  if (stride == 1) {
    *y = join_lanes<Join>(rows, [x](std::int64_t i) { return x[i]; });
    return;
  }
  std::array<Acc, kTile> acc;
  std::fill_n(acc.begin(), columns, Join::kStart);
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4, x += 4 * stride) {      // four rows at once: a quarter of the accumulators' traffic
#pragma GCC ivdep
    for (std::int64_t j = 0; j < columns; ++j) {
      const Acc two = Join::join(Join::join(acc[j], x[j]), x[stride + j]);
      acc[j] = Join::join(Join::join(two, x[2 * stride + j]), x[3 * stride + j]);
    }
  }
  for (; row < rows; ++row, x += stride) {
    for (std::int64_t j = 0; j < columns; ++j) acc[j] = Join::join(acc[j], x[j]);
  }
  std::copy_n(acc.begin(), columns, y);
}

/// One pass: y[a, piece, b] from x[a, r, b].
template <class Join, class In>
void join_pieces(ThreadPool& pool, const Stage& s, const In* x, typename Join::Acc* y) {
  const std::int64_t tiles = ceil_div(s.b, kTile), work = std::max<std::int64_t>(1, s.piece * std::min(s.b, kTile));
  const std::int64_t grain = std::max<std::int64_t>(1, 16384 / work);
  pool.parallel_for(s.a * s.pieces * tiles, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t tile = unit % tiles, piece = unit / tiles % s.pieces, a = unit / tiles / s.pieces;
      const std::int64_t row = piece * s.piece, column = tile * kTile;
      join_rows<Join>(x + (a * s.r + row) * s.b + column, std::min(s.piece, s.r - row), s.b, std::min(kTile, s.b - column),
                      y + (a * s.pieces + piece) * s.b + column);
    }
  });
}

/// The stages that take all flagged axes out of `shape`, last group of neighbouring axes first.
std::vector<Stage> stages_of(const Shape& shape, const Flags& reduced) {
  std::vector<Stage> stages;
  std::int64_t kept_after = 1;
  for (auto d = static_cast<std::int64_t>(shape.rank()) - 1; d >= 0; --d) {
    if (!reduced[static_cast<std::size_t>(d)]) {
      kept_after *= shape[d];
      continue;
    }
    std::int64_t rows = shape[d];
    while (d > 0 && reduced[static_cast<std::size_t>(d) - 1]) rows *= shape[--d];
    std::int64_t before = 1;
    for (std::int64_t i = 0; i < d; ++i) before *= shape[i];
    if (rows != 1) stages.emplace_back(before, rows, kept_after);
  }
  return stages;
}

/// y = join of x over the flagged axes / divisor.
template <class Join>
class ReduceKernel final : public Kernel {
 public:
  using Acc = typename Join::Acc;

  ReduceKernel(const Shape& shape, const Flags& reduced, Acc divisor)
      : stages_(stages_of(shape, reduced)), divisor_(divisor) {
    std::int64_t elements = 0;
    for (const Stage& s : stages_) {
      elements = std::max(elements, s.a * s.b);
      if (s.pieces > 1) pieces_.resize(std::max(pieces_.size(), static_cast<std::size_t>(s.a * s.b * s.pieces)));
    }
    for (auto& result : results_) result.resize(static_cast<std::size_t>(elements));
  }

  void run(KernelContext& c) override {
    const float* x = c.in(0).data<float>();
    float* y = c.out().data<float>();
    if (stages_.empty()) {
      if (x != y) std::memcpy(y, x, c.out().bytes());
      return;
    }
    const Acc* sums = stage(c.pool(), stages_[0], x, results_[0].data());
    for (std::size_t i = 1; i < stages_.size(); ++i) sums = stage(c.pool(), stages_[i], sums, results_[i % 2].data());
    c.pool().parallel_for(c.out().elements(), 16384, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<float>(sums[i] / divisor_);
    });
  }

 private:
  template <class In>
  const Acc* stage(ThreadPool& pool, const Stage& s, const In* x, Acc* y) {
    if (s.pieces == 1) {
      join_pieces<Join>(pool, s, x, y);
      return y;
    }
    join_pieces<Join>(pool, s, x, pieces_.data());
    Stage rest = s;
    rest.r = rest.piece = s.pieces;
    rest.pieces = 1;
    join_pieces<Join>(pool, rest, pieces_.data(), y);
    return y;
  }

  std::vector<Stage> stages_;
  std::array<std::vector<Acc>, 2> results_;
  std::vector<Acc> pieces_;
  Acc divisor_;
};

/// The `axes` attribute as flags; empty means all.
Flags flags_of(const Attrs& attrs, std::size_t rank) {
  Flags flags{};
  const auto& axes = attrs.get<Axes>("axes");
  if (axes.empty()) std::fill_n(flags.begin(), rank, true);
  for (const std::int64_t axis : axes) {
    flags[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis)] = true;
  }
  return flags;
}

/// The shape of a reduction of input i.
Shape reduced_shape(const Inference& c, std::size_t i) {
  const Shape& shape = c.shape(i);
  Flags seen{};
  for (const std::int64_t axis : c.attrs.get<Axes>("axes")) {
    if (std::exchange(seen[c.axis(i, axis)], true)) c.refuse("axis " + std::to_string(axis) + " is named twice");
  }
  const Flags flags = flags_of(c.attrs, shape.rank());
  const bool keep = c.attrs.get<bool>("keep_dims", false);
  Shape result;
  for (std::size_t d = 0; d < shape.rank(); ++d) {
    if (!flags[d]) result.append(shape[static_cast<std::int64_t>(d)]);
    else if (keep) result.append(1);
  }
  return result;
}

std::vector<Signature> infer_reduction(const Inference& c) {
  c.expect_inputs(1);
  c.expect_float(0);
  return {{DType::float32, reduced_shape(c, 0)}};
}

std::vector<Signature> infer_max(const Inference& c) {
  const auto result = infer_reduction(c);
  const Flags flags = flags_of(c.attrs, c.shape(0).rank());
  for (std::size_t d = 0; d < c.shape(0).rank(); ++d) {
    if (flags[d] && c.shape(0)[static_cast<std::int64_t>(d)] == 0) c.refuse("there is no maximum of no elements");
  }
  return result;
}

/// The node's axes spelled out, so that a gradient rule need not know that empty means all.
Axes axes_of(const Backward& b) {
  const auto rank = b.x(0).shape().rank();
  const Flags flags = flags_of(b.attrs, rank);
  Axes axes;
  for (std::size_t d = 0; d < rank; ++d) {
    if (flags[d]) axes.push_back(static_cast<std::int64_t>(d));
  }
  return axes;
}

/// A reduction's result, or its gradient, repeated over the axes that were reduced.
Value expand(const Backward& b, Value value, bool average = false) {
  return b.graph.add("ExpandLike", {value, b.x(0)},
                     {{"axes", axes_of(b)}, {"keep_dims", b.attrs.get<bool>("keep_dims", false)}, {"average", average}});
}

/// Among equal maxima the gradient is shared out evenly (as torch.amax does).
std::vector<Value> max_gradient(const Backward& b) {
  const Value taken = cast(equal(b.x(0), expand(b, b.y())), DType::float32);
  const Value count = sum(taken, b.attrs.get<Axes>("axes"), b.attrs.get<bool>("keep_dims", false));
  return {taken * expand(b, b.dy() / count)};
}

template <class Join, bool Mean>
std::unique_ptr<Kernel> make_reduction(const NodeInfo& info) {
  const Shape& shape = info.in[0].shape;
  const Flags flags = flags_of(info.attrs, shape.rank());
  double count = 1;
  for (std::size_t d = 0; d < shape.rank(); ++d) {
    if (flags[d]) count *= static_cast<double>(shape[static_cast<std::int64_t>(d)]);
  }
  return std::make_unique<ReduceKernel<Join>>(shape, flags, static_cast<typename Join::Acc>(Mean ? count : 1));
}

Example reduction(const Shape& shape, Axes axes, bool keep_dims) {
  return {.in = {{.shape = shape}}, .attrs = {{"axes", std::move(axes)}, {"keep_dims", keep_dims}}};
}

std::vector<Example> reductions() {
  return {reduction({3, 5}, {}, false),          reduction({3, 5}, {}, true),        reduction({4, 7}, {0}, false),
          reduction({4, 7}, {-1}, true),         reduction({2, 3, 4}, {1}, false),   reduction({2, 3, 4, 5}, {0, 2}, false),
          reduction({2, 3, 2, 3}, {3, 1}, true), reduction({2, 3, 4, 3}, {1, 2}, false), reduction({1, 5, 1}, {0, 2}, false),
          reduction({37}, {0}, false),           reduction({}, {}, false),           reduction({0, 3}, {1}, false),
          reduction({17, 19}, {0}, true)};
}

std::vector<Example> with_empty(std::vector<Example> examples) {
  examples.push_back(reduction({0, 3}, {0}, false));
  examples.push_back(reduction({2, 0}, {}, false));
  return examples;
}

const Registered<Op> sum_op{
    "ReduceSum",
    {.infer = infer_reduction,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {expand(b, b.dy())}; },
     .examples = with_empty(reductions())}};
const RegisteredKernel sum_kernel{"ReduceSum", "CPU", make_reduction<SumOf, false>};

const Registered<Op> mean_op{
    "ReduceMean",
    {.infer = infer_reduction,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {expand(b, b.dy(), true)}; },
     .examples = with_empty(reductions())}};
const RegisteredKernel mean_kernel{"ReduceMean", "CPU", make_reduction<SumOf, true>};

const Registered<Op> max_op{"ReduceMax", {.infer = infer_max, .gradient = max_gradient, .examples = reductions()}};
const RegisteredKernel max_kernel{"ReduceMax", "CPU", make_reduction<MaxOf, false>};

// SumLike(x, like): x summed over the dimensions in which `like` was broadcast to it; the result has like's shape.

const Registered<Op> sum_like_op{
    "SumLike",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(2);
       c.expect_float(0);
       if (!compatible(c.broadcast(0, 1), c.shape(0))) {
         c.refuse("input 1 does not broadcast to the shape of input 0");
       }
       return {{DType::float32, c.shape(1)}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("ExpandLike", {b.dy(), b.x(0)},
                           {{"axes", Axes{}}, {"keep_dims", true}, {"average", false}}), {}};
     },
     .examples = {{.in = {{.shape = {4, 3}}, {.shape = {3}}}},
                  {.in = {{.shape = {4, 3}}, {.shape = {4, 1}}}},
                  {.in = {{.shape = {4, 3}}, {.shape = {4, 3}}}},
                  {.in = {{.shape = {4, 3}}, {.shape = {}}}},
                  {.in = {{.shape = {2, 3, 4, 5}}, {.shape = {3, 1, 5}}}},
                  {.in = {{.shape = {1, 5}}, {.shape = {5}}}},
                  {.in = {{.shape = {0, 3}}, {.shape = {3}}}}},
     .reuse = {{.output = 0, .input = 0}},
     .shapes_from = 1}};
const RegisteredKernel sum_like_kernel{
    "SumLike", "CPU",
    [](const NodeInfo& info) -> std::unique_ptr<Kernel> {
                                         const Shape &x = info.in[0].shape, &like = info.in[1].shape;
                                         const std::size_t lead = x.rank() - like.rank();
                                         Flags flags{};
                                         for (std::size_t d = 0; d < x.rank(); ++d) {
                                           flags[d] = d < lead || like[static_cast<std::int64_t>(d - lead)] == 1;
                                         }
                                         return std::make_unique<ReduceKernel<SumOf>>(x, flags, 1.0);
                                       }};

// ExpandLike(x, like): the way back of a reduction of `like` over `axes`: x repeated over them, divided by the number of
// repetitions if `average`. Without axes x is broadcast to like's shape, and there is nothing to average over.

/// The shape of the reduction's result with the reduced axes kept as 1, where x lacks them.
Shape unsqueezed(const Attrs& attrs, const Shape& x, const Shape& like) {
  if (attrs.get<bool>("keep_dims")) return x;
  const auto& axes = attrs.get<Axes>("axes");
  Shape result;
  std::int64_t next = 0;
  for (std::int64_t d = 0; d < static_cast<std::int64_t>(like.rank()); ++d) {
    const bool inserted = std::find(axes.begin(), axes.end(), d) != axes.end();
    result.append(inserted ? 1 : x[next++]);
  }
  return result;
}

void check_expansion(const Inference& c) {
  const Shape &x = c.shape(0), &like = c.shape(1);
  const auto& axes = c.attrs.get<Axes>("axes");
  Flags flags{};
  for (const std::int64_t axis : axes) {
    const bool twice = axis >= 0 && std::exchange(flags[c.axis(1, axis)], true);
    if (axis < 0 || twice) c.refuse("axis " + std::to_string(axis) + " is negative or named twice");
  }
  if (!c.attrs.get<bool>("keep_dims") && x.rank() + axes.size() != like.rank()) {
    c.refuse("input 0 must have the dimensions of input 1 without the axes");
  }
  const bool averages = c.attrs.get<bool>("average");
  const Shape from = unsqueezed(c.attrs, x, like);
  const auto whole = broadcast(from, like);
  if (!whole || !compatible(*whole, like)) c.refuse("input 0 does not broadcast to the shape of input 1");
  if (axes.empty() && !averages) return;
  Shape reduced = like;
  for (const std::int64_t axis : axes) reduced.set(axis, 1);
  if (!compatible(from, reduced)) c.refuse("input 0 is repeated over other axes than " + Attr(axes).text());
}

class ExpandKernel final : public Kernel {
 public:
  explicit ExpandKernel(const NodeInfo& info)
      : plan_(info.out[0].shape, {unsqueezed(info.attrs, info.in[0].shape, info.in[1].shape)}),
        divisor_(info.attrs.get<bool>("average") ? copies(info.in[0].shape, info.out[0].shape) : 1.f) {}

  void run(KernelContext& c) override {
    const float* x = c.in(0).data<float>();
    float* y = c.out().data<float>();
    const bool advances = plan_.advances(0);
    c.pool().parallel_for(c.out().elements(), 16384, [&](std::int64_t begin, std::int64_t end) {
      plan_.runs(begin, end, [&](std::int64_t at, const auto& offset, std::int64_t n) {
        const float* from = x + offset[0];
        if (!advances) std::fill_n(y + at, n, *from / divisor_);
        else std::transform(from, from + n, y + at, [this](float value) { return value / divisor_; });
      });
    });
  }

 private:
  static float copies(const Shape& x, const Shape& y) {
    const auto from = static_cast<double>(x.elements()), to = static_cast<double>(y.elements());
    return from == 0 ? 1.f : static_cast<float>(to / from);
  }

  BroadcastPlan<1> plan_;
  float divisor_;
};

Example expand_example(const Shape& x, const Shape& like, Axes axes, bool keep_dims, bool average) {
  return {.in = {{.shape = x}, {.shape = like}},
          .attrs = {{"axes", std::move(axes)}, {"keep_dims", keep_dims}, {"average", average}}};
}

const Registered<Op> expand_like_op{
    "ExpandLike",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(2);
       c.expect_float(0);
       check_expansion(c);
       return {{DType::float32, c.shape(1)}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       const auto& axes = b.attrs.get<Axes>("axes");
       if (axes.empty()) return {b.graph.add("SumLike", {b.dy(), b.x(0)}), {}};
       const bool keep = b.attrs.get<bool>("keep_dims");
       return {b.attrs.get<bool>("average") ? mean(b.dy(), axes, keep) : sum(b.dy(), axes, keep), {}};
     },
     .examples = {expand_example({3}, {3, 5}, {1}, false, false), expand_example({3, 1}, {3, 5}, {1}, true, true),
                  expand_example({}, {3, 5}, {0, 1}, false, true),
                  expand_example({2, 4}, {2, 3, 4, 5}, {1, 3}, false, false),
                  expand_example({3}, {0, 3}, {0}, false, false), expand_example({3}, {4, 3}, {}, true, false)},
     .shapes_from = 1}};
const RegisteredKernel expand_like_kernel{"ExpandLike", "CPU", make_kernel<ExpandKernel>};

const Registered<Op> zeros_like_op{
    "ZerosLike",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(1);
       return {c.in(0)};
     },
     .gradient = no_gradient,
     .examples = {{.in = {{.shape = {2, 3}}}, .expected = {{0, 0, 0, 0, 0, 0}}},
                  {.in = {{.shape = {2}, .dtype = DType::int32, .low = 1, .high = 9}}, .expected = {{0, 0}}},
                  {.in = {{.shape = {0}}}}},
     .shapes_from = 0}};
const RegisteredKernel zeros_like_kernel{"ZerosLike", "CPU", stateless([](KernelContext& c) {
                                           std::memset(c.out().raw(), 0, c.out().bytes());
                                         })};

}  // namespace
}  // namespace cohort
