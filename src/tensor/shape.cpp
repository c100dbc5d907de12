#include "cohort/tensor/shape.hpp"

#include <algorithm>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

// Bytes of it, and sums of a graph's, can be computed in 64 bits everywhere without a second thought; no machine has as many.
constexpr std::int64_t kMostElements = std::int64_t{1} << 48;

}  // namespace

Shape::Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span<const std::int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) {
  for (const auto size : dims) append(size);
}

std::size_t Shape::position(std::int64_t i) const {
  const auto rank = static_cast<std::int64_t>(rank_);
  const std::int64_t at = i < 0 ? i + rank : i;
  if (at < 0 || at >= rank) fail(Code::out_of_range, "dimension " + std::to_string(i) + " of shape " + text());
  return static_cast<std::size_t>(at);
}

void Shape::append(std::int64_t size) { insert(rank_, size); }

void Shape::insert(std::size_t i, std::int64_t size) {
  if (rank_ == kMaxRank) fail(Code::invalid_argument, "a shape of more than 8 dimensions, after " + text());
  if (size < kUnknown) fail(Code::invalid_argument, "dimension of size " + std::to_string(size) + " in a shape, after " + text());
  if (i > rank_) fail(Code::out_of_range, "insert at dimension " + std::to_string(i) + " of shape " + text());
  std::copy_backward(dims_.begin() + static_cast<std::ptrdiff_t>(i), dims_.begin() + static_cast<std::ptrdiff_t>(rank_),
                     dims_.begin() + static_cast<std::ptrdiff_t>(rank_) + 1);
  dims_[i] = size;
  ++rank_;
}

void Shape::erase(std::size_t i) {
  if (i >= rank_) fail(Code::out_of_range, "erase dimension " + std::to_string(i) + " of shape " + text());
  std::copy(dims_.begin() + static_cast<std::ptrdiff_t>(i) + 1, dims_.begin() + static_cast<std::ptrdiff_t>(rank_),
            dims_.begin() + static_cast<std::ptrdiff_t>(i));
  --rank_;
}

bool Shape::known() const noexcept {
  return std::all_of(begin(), end(), [](std::int64_t size) { return size != kUnknown; });
}

std::int64_t Shape::elements() const {
  std::int64_t n = 1, counted = 1;               // without dimensions of size 0
  for (const auto size : *this) {
    if (size == kUnknown) fail(Code::internal, "number of elements asked of the partly unknown shape " + text());
    if (__builtin_mul_overflow(counted, std::max<std::int64_t>(size, 1), &counted) || counted > kMostElements) {
      fail(Code::invalid_argument, "shape " + text() + " has more than 2^48 elements");
    }
    n *= size;
  }
  return n;
}

std::int64_t Shape::rows() const {
  std::int64_t n = 1;
  for (std::size_t i = 0; i + 1 < rank_; ++i) n *= dims_[i];
  return n;
}

std::string Shape::text() const {
  std::string result = "[";
  for (std::size_t i = 0; i < rank_; ++i) {
    if (i > 0) result += ", ";
    result += dims_[i] == kUnknown ? "?" : std::to_string(dims_[i]);
  }
  return result + "]";
}

bool operator==(const Shape& a, const Shape& b) noexcept { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

bool compatible(const Shape& a, const Shape& b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](std::int64_t x, std::int64_t y) {
    return x == y || x == Shape::kUnknown || y == Shape::kUnknown;
  });
}

std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  Shape result;
  const std::size_t rank = std::max(a.rank(), b.rank());
  for (std::size_t i = 0; i < rank; ++i) {
    const auto back = static_cast<std::int64_t>(rank - i);
    const std::int64_t x = static_cast<std::size_t>(back) <= a.rank() ? a[-back] : 1;
    const std::int64_t y = static_cast<std::size_t>(back) <= b.rank() ? b[-back] : 1;
    if (x == y || y == 1) result.append(x);
    else if (x == 1) result.append(y);
    else if (x == Shape::kUnknown) result.append(y);
    else if (y == Shape::kUnknown) result.append(x);
    else return std::nullopt;
  }
  return result;
}

}  // namespace cohort
