#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/base/log.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort {

/// What a take gets of the accumulated gradients.
enum class Reduction : std::uint8_t { mean, sum };
[[nodiscard]] Reduction reduction_from(std::string_view name);   ///< "MEAN", "SUM"; Error invalid_argument

/// The protocol of TensorFlow's conditional accumulators (core/kernels/conditional_accumulator_base.h, 1.15): gradients that
/// are too old are dropped, the others are collected until somebody who waits for so many takes them all. Thread-safe. Threads
/// share one by sharing the object; there are no names.
///
/// No job uses accumulators yet, only their tests do: parameter tasks count gradients by rules of their own (`Aggregation`).
/// The dataflow runtime will, for graphs whose ops take gradients from an accumulator as TensorFlow's do.
class ConditionalAccumulatorBase {
 public:
  ConditionalAccumulatorBase(const ConditionalAccumulatorBase&) = delete;
  ConditionalAccumulatorBase& operator=(const ConditionalAccumulatorBase&) = delete;

  /// Gradients of earlier local steps are dropped from here on. May go back, which is warned of.
  void set_global_step(std::int64_t step);
  [[nodiscard]] std::int64_t global_step() const;
  /// Gradients since the last take.
  [[nodiscard]] std::int64_t num_accumulated() const;
  /// Takes that wait.
  [[nodiscard]] std::size_t num_pending() const;

 protected:
  ConditionalAccumulatorBase(DType dtype, Reduction reduction, Log log);
  ~ConditionalAccumulatorBase() = default;

  /// Calls `add(first)`, unless the gradient is too old; what it throws leaves all as it was. Takes that have enough by this
  /// gradient have been served when this returns. True if the gradient counts.
  template <class Add>
  bool apply(std::int64_t local_step, Add&& add) {
    const std::lock_guard lock(mutex_);
    if (local_step < global_step_) return false;
    add(counter_ == 0);
    ++counter_;
    serve();
    return true;
  }

  /// Waits for its turn and for `n` gradients, and returns what `give(counter)` does, which is called by the thread that
  /// brought the last of them, before there can be one more. What `give` throws is thrown here; it must leave all as it was.
  template <class Give>
  auto take(std::int64_t n, const std::stop_token& stop, Give&& give) {
    std::optional<decltype(give(n))> result;
    Pending me{n, [&](std::int64_t counter) { result.emplace(give(counter)); }};
    wait_for(me, stop);
    return std::move(*result);
  }

  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] Reduction reduction() const noexcept { return reduction_; }
  /// A dense copy in this machine's memory, or the tensor itself if it is one. Error invalid_argument: another element type.
  [[nodiscard]] Tensor on_host(const Tensor& tensor) const;

 private:
  /// A take that waits, in the memory of its caller.
  struct Pending {
    std::int64_t n;
    std::function<void(std::int64_t counter)> give;
    bool served = false;
    std::exception_ptr error{};          // of `give`
  };
  void wait_for(Pending& me, const std::stop_token& stop);
  void serve();

  const DType dtype_;
  const Reduction reduction_;
  const Log log_;
  mutable std::mutex mutex_;
  std::condition_variable_any served_;
  std::int64_t counter_ = 0, global_step_ = 0;
  std::list<Pending*> pending_;   // takes, in the order of their calls; outside the lock the first lacks gradients
};

/// Sums of dense gradients of one shape.
class ConditionalAccumulator final : public ConditionalAccumulatorBase {
 public:
  /// `shape`: dimensions may be unknown, none means any number of dimensions; the first gradient of a round then fixes it for
  /// that round. `dtype`: float32 or float64.
  explicit ConditionalAccumulator(DType dtype = DType::float32, std::optional<Shape> shape = {}, Reduction reduction = Reduction::mean,
                                  Log log = Log());

  /// Adds the gradient if `local_step` >= global_step(), else drops it unread, which is no error. Never waits. True if it counts.
  /// Error invalid_argument "Shape mismatch: expected …, got …".
  bool apply_grad(const Tensor& gradient, std::int64_t local_step = 0);

  /// Waits for `num_required` gradients, behind the takes that were called before. The sum of all that are there, which may be
  /// more, divided by their number where the reduction is the mean; then none is there, and the global step is one more.
  /// Errors: invalid_argument, num_required < 1; cancelled, `stop` was asked for.
  [[nodiscard]] Tensor take_grad(std::int64_t num_required, const std::stop_token& stop = {});

 private:
  void check_shape(const Shape& shape, bool first) const;

  const std::optional<Shape> shape_;
  Tensor sum_;
};

/// Rows of a tensor whose other rows are zero.
struct SparseGradient {
  Tensor indices;                      ///< int64 [nnz], ascending, each once
  Tensor values;                       ///< [nnz, …]: row i is row indices[i] of the whole
  std::optional<Shape> shape{};        ///< of the whole, where it is known
};

/// Sums of sparse gradients, row by row. Beware: the mean divides each row by the number of gradients that had that row, not by
/// the number of all, so it is not the mean of the dense gradients.
class SparseConditionalAccumulator final : public ConditionalAccumulatorBase {
 public:
  explicit SparseConditionalAccumulator(DType dtype = DType::float32, std::optional<Shape> shape = {}, Reduction reduction = Reduction::mean,
                                        Log log = Log());

  /// As ConditionalAccumulator's. Errors invalid_argument as TensorFlow says them; and, where TensorFlow would take it and give
  /// wrong sums, if the indices are negative, not ascending or not unique.
  bool apply_grad(const SparseGradient& gradient, std::int64_t local_step = 0);

  /// As ConditionalAccumulator's. `shape` of the result: first dimension as declared or unknown, the others those of the values.
  [[nodiscard]] SparseGradient take_grad(std::int64_t num_required, const std::stop_token& stop = {});

 private:
  void check_form(const SparseGradient& gradient) const;
  void check_shape(const SparseGradient& gradient) const;
  void check_indices(const std::vector<std::int64_t>& indices) const;
  void check_values(const Shape& values, bool first) const;
  void merge(const std::vector<std::int64_t>& indices, const Tensor& values);
  [[nodiscard]] SparseGradient give();

  const std::optional<Shape> shape_;
  std::vector<std::int64_t> indices_, counts_;   // of the rows of sum_; in how many gradients each was
  Tensor sum_;
};

}  // namespace cohort
