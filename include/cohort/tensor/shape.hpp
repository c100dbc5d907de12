#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

namespace cohort {

/// Up to eight dimensions, held in place. A dimension may be unknown (`kUnknown`) in a graph; a tensor's are all known.
class Shape {
 public:
  static constexpr std::int64_t kUnknown = -1;
  static constexpr std::size_t kMaxRank = 8;

  Shape() = default;                                           ///< a scalar
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);          ///< Error invalid_argument: too many or negative

  [[nodiscard]] std::size_t rank() const noexcept { return rank_; }
  /// Negative positions count from the end. Error out_of_range.
  [[nodiscard]] std::int64_t operator[](std::int64_t i) const { return dims_[position(i)]; }
  void set(std::int64_t i, std::int64_t size) { dims_[position(i)] = size; }
  void append(std::int64_t size);
  void insert(std::size_t i, std::int64_t size);
  void erase(std::size_t i);

  [[nodiscard]] const std::int64_t* begin() const noexcept { return dims_.data(); }
  [[nodiscard]] const std::int64_t* end() const noexcept { return dims_.data() + rank_; }
  [[nodiscard]] bool known() const noexcept;
  [[nodiscard]] std::int64_t elements() const;                 ///< 1 for a scalar; all must be known. Error invalid_argument above 2^48
  [[nodiscard]] std::int64_t rows() const;                     ///< elements() / last dimension as a product of the others; 1 for a scalar
  [[nodiscard]] std::int64_t columns() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }
  [[nodiscard]] std::string text() const;                      ///< "[?, 28, 28, 1]"

  friend bool operator==(const Shape& a, const Shape& b) noexcept;

 private:
  [[nodiscard]] std::size_t position(std::int64_t i) const;

  std::array<std::int64_t, kMaxRank> dims_{};
  std::size_t rank_ = 0;
};

/// The known dimensions of both; false if they contradict each other.
[[nodiscard]] bool compatible(const Shape& a, const Shape& b) noexcept;

/// NumPy's broadcasting rule; an unknown dimension against a known one other than 1 takes the known one. Nothing if the
/// shapes do not go together.
[[nodiscard]] std::optional<Shape> broadcast(const Shape& a, const Shape& b);

}  // namespace cohort
