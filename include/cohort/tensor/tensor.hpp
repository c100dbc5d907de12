#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cohort/tensor/device.hpp"
#include "cohort/tensor/dtype.hpp"
#include "cohort/tensor/shape.hpp"

namespace cohort {

/// How the elements lie when they do not lie row by row: a tag that the op that made it understands (a blocked
/// convolution layout, say). 0 is plain.
enum class Layout : std::uint32_t { plain = 0 };

/// Shape, element type, leading-dimension stride, layout tag, and a shared piece of one device's memory. Seen as a matrix
/// of `shape.rows()` rows of `shape.columns()` elements, row i begins at element i · ld; ld > columns leaves padding that
/// nobody reads (it takes leading dimensions off multiples of 4 KiB, which halve the speed of matrix products).
/// A copy is a second view of the same memory.
class Tensor {
 public:
  Tensor() = default;
  /// New memory on `device`; contents unspecified. `ld` 0 means dense.
  Tensor(Device& device, DType dtype, const Shape& shape, std::int64_t ld = 0);
  /// A view of memory that `owner` keeps alive (null: the caller does).
  Tensor(Device& device, DType dtype, const Shape& shape, void* data, std::shared_ptr<void> owner = nullptr,
         std::int64_t ld = 0, Layout layout = Layout::plain);

  /// Dense host tensors, for tests, examples and files.
  [[nodiscard]] static Tensor zeros(const Shape& shape, DType dtype = DType::float32);
  template <class T>
  [[nodiscard]] static Tensor of(const Shape& shape, const std::vector<T>& values);
  template <class T>
  [[nodiscard]] static Tensor scalar(T value) { return of<T>({}, {value}); }

  [[nodiscard]] bool empty() const noexcept { return device_ == nullptr; }   ///< no tensor at all (a tensor of 0 elements is one)
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::int64_t elements() const { return shape_.elements(); }
  [[nodiscard]] std::int64_t rows() const { return shape_.rows(); }
  [[nodiscard]] std::int64_t columns() const { return shape_.columns(); }
  [[nodiscard]] std::int64_t ld() const noexcept { return ld_; }
  [[nodiscard]] bool dense() const { return ld_ == shape_.columns() || shape_.rows() <= 1; }
  [[nodiscard]] Layout layout() const noexcept { return layout_; }
  [[nodiscard]] Device& device() const noexcept { return *device_; }
  [[nodiscard]] const std::shared_ptr<void>& owner() const noexcept { return owner_; }
  [[nodiscard]] std::size_t bytes() const;                                      ///< spanned, padding between rows included

  /// The address in its device's memory; T must be the element type (checked). Does not say that the host may read it.
  template <class T>
  [[nodiscard]] T* data() const {
    if (dtype_of<T>() != dtype_) fail_dtype(dtype_of<T>());
    return static_cast<T*>(data_);
  }
  [[nodiscard]] void* raw() const noexcept { return data_; }

  /// All elements in row order, copied to the host through the device's stream (synchronizes).
  template <class T>
  [[nodiscard]] std::vector<T> to_vector() const;
  /// Copies all elements from `source` (same shape and type; any devices, any ld). Synchronizes.
  void copy_from(const Tensor& source) const;

  [[nodiscard]] Tensor reshaped(const Shape& shape) const;                       ///< padded rows: only to as many columns
  void set_data(void* data) noexcept { data_ = data; }                           ///< executor: a feed changes its memory every run

 private:
  [[noreturn]] void fail_dtype(DType asked) const;

  Device* device_ = nullptr;
  DType dtype_ = DType::float32;
  Shape shape_;
  std::int64_t ld_ = 1;
  Layout layout_ = Layout::plain;
  std::shared_ptr<void> owner_;
  void* data_ = nullptr;
};

/// The leading dimension for a matrix of floats: dense, or a cache line more where rows that are a multiple of 1 KiB apart
/// would fall on the same cache sets and halve the speed of products.
[[nodiscard]] std::int64_t padded_ld(const Shape& shape) noexcept;

template <class T>
Tensor Tensor::of(const Shape& shape, const std::vector<T>& values) {
  Tensor result(host(), dtype_of<T>(), shape);
  check(static_cast<std::int64_t>(values.size()) == shape.elements(), Code::invalid_argument,
        "a tensor of shape " + shape.text() + " from " + std::to_string(values.size()) + " values");
  std::copy(values.begin(), values.end(), result.data<T>());
  return result;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no memory to copy to: read uint8");
  Tensor dense(host(), dtype_, shape_);
  dense.copy_from(*this);
  const T* begin = dense.data<T>();
  return {begin, begin + elements()};
}

}  // namespace cohort
