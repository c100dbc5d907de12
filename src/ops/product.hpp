#pragma once

#include <cstdint>
#include <memory>

#include "cohort/exec/kernel.hpp"
#include "onednn.hpp"

namespace cohort::onednn {

/// The matrix product of a kernel: in float32, or where the plan asks for it (attribute `native_bf16`) with factors converted to
/// bfloat16 and multiplied by the processor's own instructions, summed in float32.
class Product {
 public:
  /// `transpose_a`, `transpose_b`: how the matrices will lie. Error failed_precondition if the processor does not multiply bfloat16.
  Product(const NodeInfo& info, const ProductSize& size, bool transpose_a, bool transpose_b);
  ~Product();
  Product(Product&&) noexcept;

  /// c [m, n] := a · b, by the threads of the kernel's pool.
  void run(ThreadPool& pool, const Matrix& a, const Matrix& b, float* c, std::int64_t ld);

 private:
  class Native;
  ProductSize size_;
  std::unique_ptr<Native> native_;      // null: float32
};

}  // namespace cohort::onednn
