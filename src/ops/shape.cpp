// The same elements in another shape (views that cost nothing) or another order.
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

using Numbers = std::vector<std::int64_t>;

const std::vector<Reuse> kView{{.output = 0, .input = 0, .view = true}};

/// The gradient of every op here that is a view.
std::vector<Value> reshaped_back(const Backward& b) {
  std::vector<Value> dx(b.inputs());
  dx[0] = b.graph.add("ReshapeLike", {b.dy(), b.x(0)});
  return dx;
}

/// The number of elements, if it is known. Unknown dimensions beside a 0 still give 0.
std::optional<std::int64_t> elements_of(const Shape& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  return shape.known() ? std::optional(shape.elements()) : std::nullopt;
}

std::vector<Signature> infer_reshape(const Inference& c) {
  c.expect_inputs(1);
  const auto& wanted = c.attrs.get<Numbers>("shape");
  std::int64_t known = 1, open = -1;
  for (std::size_t d = 0; d < wanted.size(); ++d) {
    if (wanted[d] < -1) c.refuse("dimension " + std::to_string(wanted[d]) + " in the shape asked for");
    if (wanted[d] >= 0) known *= wanted[d];
    else if (open >= 0) c.refuse("the shape asked for leaves more than one dimension (-1) open");
    else open = static_cast<std::int64_t>(d);
  }
  if (wanted.size() > Shape::kMaxRank) c.refuse("the shape asked for has more than 8 dimensions");
  Shape result{std::span<const std::int64_t>(wanted)};
  const auto elements = elements_of(c.shape(0));
  if (elements && open < 0 && *elements != known) c.refuse("has not the elements of the shape asked for, " + result.text());
  if (elements && open >= 0) {
    if (known == 0) c.refuse("the open dimension of the shape asked for, " + result.text() + ", could be anything");
    if (*elements % known != 0) c.refuse("cannot be divided into the shape asked for, " + result.text());
    result.set(open, *elements / known);
  }
  return {{c.in(0).dtype, result}};
}

Example reshape_example(const Shape& shape, Numbers to) {
  return {.in = {{.shape = shape}}, .attrs = {{"shape", std::move(to)}}};
}

const Registered<Op> reshape_op{
    "Reshape",
    {.infer = infer_reshape,
     .gradient = reshaped_back,
     .examples = {reshape_example({3, 4}, {2, 6}), reshape_example({3, 4}, {-1, 2}),
                  reshape_example({1, 5, 1}, {5}), reshape_example({1}, {}),
                  reshape_example({}, {1, 1}), reshape_example({0, 3}, {-1, 3, 1})},
     .reuse = kView}};

const Registered<Op> flatten_op{
    "Flatten",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(1);
       const Shape& x = c.shape(0);
       if (x.rank() == 0) c.refuse("input 0 must have at least one dimension");
       Shape rest = x;
       rest.erase(0);
       return {{c.in(0).dtype, {x[0], elements_of(rest).value_or(Shape::kUnknown)}}};
     },
     .gradient = reshaped_back,
     .examples = {{.in = {{.shape = {2, 3, 4}}}}, {.in = {{.shape = {5}}}}, {.in = {{.shape = {0, 3, 1}}}}},
     .reuse = kView}};

/// ReshapeLike(x, like): x in the shape of `like`.
const Registered<Op> reshape_like_op{
    "ReshapeLike",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(2);
       const auto have = elements_of(c.shape(0)), want = elements_of(c.shape(1));
       if (have && want && *have != *want) c.refuse("the inputs must have as many elements");
       return {{c.in(0).dtype, c.shape(1)}};
     },
     .gradient = reshaped_back,
     .examples = {{.in = {{.shape = {2, 6}}, {.shape = {3, 1, 4}}}}},
     .reuse = kView,
     .shapes_from = 1}};

// Transpose(x){permutation}: dimension i of the result is dimension permutation[i] of x.

/// The general case is a walk over the result with a matrix transposition inside: dimension `row_` is the one along which x
/// is contiguous, dimension `column_` the one along which the result is; they are swapped in tiles that fit the cache.
template <class T>
class TransposeKernel final : public Kernel {
 public:
  explicit TransposeKernel(const NodeInfo& info) {
    const Shape& x = info.in[0].shape;
    const auto& permutation = info.attrs.get<Numbers>("permutation");
    std::array<std::int64_t, Shape::kMaxRank> step{};
    std::int64_t next = 1;
    for (std::size_t d = x.rank(); d-- > 0;) {
      step[d] = next;
      next *= x[static_cast<std::int64_t>(d)];
    }
    next = 1;
    for (std::size_t d = x.rank(); d-- > 0;) {
      const auto from = static_cast<std::size_t>(permutation[d]);
      append({x[permutation[d]], step[from], next});
      next *= x[permutation[d]];
    }
    split();
  }

  void run(KernelContext& c) override {
    const T* x = c.in(0).template data<T>();
    T* y = c.out().template data<T>();
    if (c.out().elements() == 0) return;
    const std::int64_t bands = (row_.size + tile_ - 1) / tile_, work = std::min(row_.size, tile_) * column_.size;
    const std::int64_t grain = std::max<std::int64_t>(1, 16384 / work);
    c.pool().parallel_for(outer_ * bands, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        std::int64_t rest = unit / bands, from = 0, to = 0;
        for (const Dimension& d : others_) {
          from += rest % d.size * d.from_step;
          to += rest % d.size * d.to_step;
          rest /= d.size;
        }
        band(x + from, y + to, unit % bands * tile_);
      }
    });
  }

 private:
  static constexpr std::int64_t kTile = 32;
  struct Dimension {
    std::int64_t size, from_step, to_step;     // steps in elements
  };

  /// Adds the next outer dimension of the result, merged with the last where x's elements allow it.
  void append(const Dimension& dim) {
    if (dim.size == 1) return;
    if (!others_.empty() && others_.back().size * others_.back().from_step == dim.from_step) others_.back().size *= dim.size;
    else others_.push_back(dim);
  }

  /// Takes row and column out of the list; where they are the same dimension there is no column.
  void split() {
    const auto take = [this](std::int64_t Dimension::*step) {
      const auto at = std::find_if(others_.begin(), others_.end(), [&](const Dimension& d) { return d.*step == 1; });
      Dimension result{1, 1, 1};
      if (at != others_.end()) {
        result = *at;
        others_.erase(at);
      }
      return result;
    };
    row_ = take(&Dimension::from_step);
    column_ = take(&Dimension::to_step);
    for (const Dimension& d : others_) outer_ *= d.size;
    if (column_.size == 1) tile_ = 16384;
  }

  void band(const T* x, T* y, std::int64_t begin) const {
    const std::int64_t rows = std::min(tile_, row_.size - begin);
    if (column_.size == 1) {                   // x is contiguous along the result's innermost dimension, too
      std::copy_n(x + begin, rows, y + begin);
      return;
    }
    for (std::int64_t j = 0; j < column_.size; j += kTile) {
      const std::int64_t columns = std::min(kTile, column_.size - j);
      // Through a buffer, so that each cache line is read and written once even where steps are powers of two.
      std::array<std::array<T, kTile + 1>, kTile> tile;
      for (std::int64_t k = 0; k < columns; ++k) {
        std::copy_n(x + begin + (j + k) * column_.from_step, rows, tile[static_cast<std::size_t>(k)].begin());
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        T* to = y + (begin + r) * row_.to_step + j;
        for (std::int64_t k = 0; k < columns; ++k) to[k] = tile[static_cast<std::size_t>(k)][static_cast<std::size_t>(r)];
      }
    }
  }

  std::vector<Dimension> others_;              // innermost first
  Dimension row_{1, 1, 1}, column_{1, 1, 1};
  std::int64_t outer_ = 1, tile_ = kTile;
};

std::vector<Signature> infer_transpose(const Inference& c) {
  c.expect_inputs(1);
  const Shape& x = c.shape(0);
  const auto& permutation = c.attrs.get<Numbers>("permutation");
  Numbers sorted = permutation;
  std::sort(sorted.begin(), sorted.end());
  bool right = sorted.size() == x.rank();
  for (std::size_t d = 0; right && d < sorted.size(); ++d) right = sorted[d] == static_cast<std::int64_t>(d);
  if (!right) c.refuse("the permutation " + Attr(permutation).text() + " does not name each dimension of input 0 once");
  Shape result;
  for (const std::int64_t d : permutation) result.append(x[d]);
  return {{c.in(0).dtype, result}};
}

Example transpose_example(const Shape& shape, Numbers permutation, DType dtype = DType::float32) {
  return {.in = {{.shape = shape, .dtype = dtype, .high = 5}}, .attrs = {{"permutation", std::move(permutation)}}};
}

const Registered<Op> transpose_op{
    "Transpose",
    {.infer = infer_transpose,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       const auto& permutation = b.attrs.get<Numbers>("permutation");
       Numbers inverse(permutation.size());
       for (std::size_t d = 0; d < inverse.size(); ++d) {
         inverse[static_cast<std::size_t>(permutation[d])] = static_cast<std::int64_t>(d);
       }
       return {transpose(b.dy(), inverse)};
     },
     .examples = {transpose_example({3, 5}, {1, 0}), transpose_example({2, 3, 4}, {0, 2, 1}),
                  transpose_example({2, 3, 4}, {2, 0, 1}), transpose_example({2, 3, 4, 5}, {0, 2, 1, 3}),
                  transpose_example({2, 3, 2, 3}, {3, 1, 0, 2}), transpose_example({1, 7, 1}, {2, 1, 0}),
                  transpose_example({33, 41}, {1, 0}), transpose_example({2, 3}, {0, 1}), transpose_example({}, {}),
                  transpose_example({0, 3}, {1, 0}), transpose_example({2, 3}, {1, 0}, DType::boolean),
                  transpose_example({2, 3}, {1, 0}, DType::int64)}}};
const RegisteredKernel transpose_kernel{
    "Transpose", "CPU",
    [](const NodeInfo& info) {
                                          return dispatch(info.in[0].dtype, [&]<class T>() -> std::unique_ptr<Kernel> {
                                            return std::make_unique<TransposeKernel<T>>(info);
                                          });
                                        }};

}  // namespace
}  // namespace cohort
