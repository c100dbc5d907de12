#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/data/accumulator.hpp"

namespace cohort {
namespace {

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) {
  fail(Code::invalid_argument, fmt::format(text, std::forward<Args>(args)...));
}

Shape with_rows(const Shape& values, std::size_t rows) {
  Shape shape = values;
  shape.set(0, static_cast<std::int64_t>(rows));
  return shape;
}

/// to[i] := to[i] + from[i], or from[i] if the row is new.
template <class T>
void add_row(T* to, const T* from, std::int64_t n, bool fresh) {
  if (fresh) std::copy_n(from, n, to);
  else for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
}

}  // namespace

SparseConditionalAccumulator::SparseConditionalAccumulator(DType dtype, std::optional<Shape> shape, Reduction reduction, Log log)
    : ConditionalAccumulatorBase(dtype, reduction, std::move(log)), shape_(std::move(shape)) {}

void SparseConditionalAccumulator::check_form(const SparseGradient& gradient) const {
  const Shape &indices = gradient.indices.shape(), &values = gradient.values.shape();
  if (indices.rank() != 1) refuse("Input indices should be vector but received shape: {}", indices.text());
  if (values.rank() == 0) refuse("Values cannot be 0-dimensional.");
  if (values[0] != indices[0]) refuse("Expected {} non-empty input values, got {}", indices[0], values[0]);
  if (gradient.indices.dtype() != DType::int64) refuse("indices are {}, allowed: int64", name(gradient.indices.dtype()));
}

/// The shape that the gradient says it has.
void SparseConditionalAccumulator::check_shape(const SparseGradient& gradient) const {
  if (!shape_ || !gradient.shape) return;
  if (shape_->rank() > gradient.shape->rank()) {
    refuse("Shape mismatch: expected shape rank at least {}, got {}", shape_->rank(), gradient.shape->rank());
  }
  for (std::size_t i = 0; i < shape_->rank(); ++i) {
    const std::int64_t expected = shape_->begin()[i], got = gradient.shape->begin()[i];
    if (expected != Shape::kUnknown && expected != got) refuse("Shape mismatch: expected shape dim {} to be {}, got {}", i, expected, got);
  }
}

void SparseConditionalAccumulator::check_values(const Shape& values, bool first) const {
  if (!first && sum_.shape().rank() != values.rank()) {
    refuse("Shape mismatch: expected values rank {}, got {}", sum_.shape().rank(), values.rank());
  }
  if (first && shape_ && shape_->rank() > values.rank()) {
    refuse("Shape mismatch: expected values rank at least {}, got {}", shape_->rank(), values.rank());
  }
  const Shape expected = !first ? sum_.shape() : shape_ ? *shape_ : Shape();
  for (std::size_t i = 1; i < expected.rank(); ++i) {
    const std::int64_t want = expected.begin()[i], got = values.begin()[i];
    if (want != Shape::kUnknown && want != got) refuse("Shape mismatch: expected values dim {} to be {}, got {}", i, want, got);
  }
}

bool SparseConditionalAccumulator::apply_grad(const SparseGradient& gradient, std::int64_t local_step) {
  return apply(local_step, [&](bool first) {
    check_form(gradient);
    check_shape(gradient);
    std::vector<std::int64_t> indices = gradient.indices.to_vector<std::int64_t>();
    check_indices(indices);
    check_values(gradient.values.shape(), first);
    const Tensor values = on_host(gradient.values);
    if (first) {
      indices_.clear();
      counts_.clear();
      sum_ = Tensor(host(), dtype(), with_rows(values.shape(), 0));
    }
    merge(indices, values);
  });
}

void SparseConditionalAccumulator::check_indices(const std::vector<std::int64_t>& indices) const {
  const std::int64_t rows = shape_ && shape_->rank() > 0 ? (*shape_)[0] : Shape::kUnknown;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (rows != Shape::kUnknown && indices[i] >= rows) {
      refuse("Shape mismatch: index of slice {} exceeded limits of shape; index is {} exceeded {}", i, indices[i], rows);
    }
    if (indices[i] < 0) refuse("index of slice {} is {}, allowed: 0 or more", i, indices[i]);
    if (i > 0 && indices[i] <= indices[i - 1]) {
      refuse("indices must ascend, each once: {} follows {} at slice {}", indices[i], indices[i - 1], i);
    }
  }
}

/// Two ascending lists into one.
void SparseConditionalAccumulator::merge(const std::vector<std::int64_t>& indices, const Tensor& values) {
  std::vector<std::int64_t> all, counts;
  std::ranges::set_union(indices_, indices, std::back_inserter(all));
  Tensor sum(host(), dtype(), with_rows(values.shape(), all.size()));
  const std::int64_t width = indices.empty() && indices_.empty() ? 0 : sum.elements() / static_cast<std::int64_t>(all.size());
  dispatch(dtype(), [&]<class T>() {
    if constexpr (std::is_floating_point_v<T>) {
      const T *old = sum_.data<T>(), *added = values.data<T>();
      T* to = sum.data<T>();
      std::size_t a = 0, b = 0;
      for (const std::int64_t index : all) {
        const bool in_old = a < indices_.size() && indices_[a] == index, in_new = b < indices.size() && indices[b] == index;
        counts.push_back((in_old ? counts_[a] : 0) + (in_new ? 1 : 0));
        if (in_old) add_row(to, old + static_cast<std::int64_t>(a++) * width, width, true);
        if (in_new) add_row(to, added + static_cast<std::int64_t>(b++) * width, width, !in_old);
        to += width;
      }
    }
  });
  indices_ = std::move(all);
  counts_ = std::move(counts);
  sum_ = std::move(sum);
}

SparseGradient SparseConditionalAccumulator::give() {
  Tensor indices = Tensor::of<std::int64_t>({static_cast<std::int64_t>(indices_.size())}, indices_);   // first: it may throw
  if (reduction() == Reduction::mean) {
    dispatch(dtype(), [&]<class T>() {
      if constexpr (std::is_floating_point_v<T>) {
        T* row = sum_.data<T>();
        for (const std::int64_t count : counts_) {
          const std::int64_t width = sum_.elements() / static_cast<std::int64_t>(counts_.size());
          std::for_each_n(row, width, [n = static_cast<T>(count)](T& x) { x /= n; });
          row += width;
        }
      }
    });
  }
  Shape shape = sum_.shape();
  shape.set(0, shape_ && shape_->rank() > 0 ? (*shape_)[0] : Shape::kUnknown);
  return {std::move(indices), std::exchange(sum_, Tensor()), shape};
}

SparseGradient SparseConditionalAccumulator::take_grad(std::int64_t num_required, const std::stop_token& stop) {
  return take(num_required, stop, [this](std::int64_t) { return give(); });
}

}  // namespace cohort
