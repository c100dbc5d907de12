#include "cohort/tensor/tensor.hpp"

#include <string>

namespace cohort {
namespace {

std::size_t spanned_bytes(DType dtype, const Shape& shape, std::int64_t ld) {
  const std::int64_t rows = shape.rows(), columns = shape.columns();
  if (rows == 0 || columns == 0) return 0;
  return static_cast<std::size_t>((rows - 1) * ld + columns) * size_of(dtype);
}

}  // namespace

Tensor::Tensor(Device& device, DType dtype, const Shape& shape, std::int64_t ld)
    : Tensor(device, dtype, shape, nullptr, nullptr, ld) {
  owner_ = device.allocate(bytes()).memory;
  data_ = owner_.get();
}

Tensor::Tensor(Device& device, DType dtype, const Shape& shape, void* data, std::shared_ptr<void> owner, std::int64_t ld,
               Layout layout)
    : device_(&device), dtype_(dtype), shape_(shape), ld_(ld == 0 ? shape.columns() : ld), layout_(layout),
      owner_(std::move(owner)), data_(data) {
  // Views are made in every step: texts only where they are needed.
  if (!shape.known()) fail(Code::internal, "a tensor of the partly unknown shape " + shape.text());
  if (ld_ < shape.columns()) {
    fail(Code::invalid_argument, "leading dimension " + std::to_string(ld_) + " below the columns of shape " + shape.text());
  }
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor result(host(), dtype, shape);
  std::fill_n(static_cast<std::byte*>(result.raw()), result.bytes(), std::byte{0});
  return result;
}

std::size_t Tensor::bytes() const { return spanned_bytes(dtype_, shape_, ld_); }

void Tensor::copy_from(const Tensor& source) const {
  if (source.shape_ != shape_ || source.dtype_ != dtype_ || source.layout_ != layout_) {
    fail(Code::invalid_argument, "copy of a " + std::string(name(source.dtype_)) + source.shape_.text() + " tensor into a " +
                                     std::string(name(dtype_)) + shape_.text() + " one");
  }
  // The side whose memory the host cannot touch does the copy.
  Stream& stream = source.device_->info().host_accessible ? device_->stream() : source.device_->stream();
  if (dense() && source.dense()) {
    stream.copy(data_, source.data_, bytes());
  } else {
    const std::size_t size = size_of(dtype_);
    for (std::int64_t row = 0; row < rows(); ++row) {
      stream.copy(static_cast<std::byte*>(data_) + static_cast<std::size_t>(row * ld_) * size,
                  static_cast<const std::byte*>(source.data_) + static_cast<std::size_t>(row * source.ld_) * size,
                  static_cast<std::size_t>(columns()) * size);
    }
  }
  stream.synchronize();
}

Tensor Tensor::reshaped(const Shape& shape) const {
  const bool same_rows = shape.columns() == columns();
  check((dense() || same_rows) && layout_ == Layout::plain, Code::failed_precondition,
        "reshape of a tensor with padded rows to other rows, or of a blocked layout");
  check(shape.elements() == elements(), Code::invalid_argument, "reshape of " + shape_.text() + " to " + shape.text());
  return {*device_, dtype_, shape, data_, owner_, same_rows ? ld_ : 0};
}

std::int64_t padded_ld(const Shape& shape) noexcept {
  constexpr std::int64_t kUnit = 256, kLine = 16;   // floats: 1 KiB, a cache line
  const std::int64_t columns = shape.columns();
  return shape.rows() > 1 && columns > 0 && columns % kUnit == 0 ? columns + kLine : columns;
}

void Tensor::fail_dtype(DType asked) const {
  fail(Code::internal, "a tensor of " + std::string(name(dtype_)) + " read as " + std::string(name(asked)));
}

}  // namespace cohort
