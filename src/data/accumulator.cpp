#include "cohort/data/accumulator.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {

Reduction reduction_from(std::string_view name) {
  if (name == "MEAN") return Reduction::mean;
  if (name == "SUM") return Reduction::sum;
  fail(Code::invalid_argument, fmt::format("reduction_type is '{}', allowed: MEAN SUM", name));
}

ConditionalAccumulatorBase::ConditionalAccumulatorBase(DType dtype, Reduction reduction, Log log)
    : dtype_(dtype), reduction_(reduction), log_(std::move(log)) {
  if (dtype != DType::float32 && dtype != DType::float64) {
    fail(Code::invalid_argument, fmt::format("an accumulator of {}, allowed: float32 float64", name(dtype)));
  }
}

void ConditionalAccumulatorBase::set_global_step(std::int64_t step) {
  const std::lock_guard lock(mutex_);
  if (step < global_step_) log_.warning(fmt::format("an accumulator's global step is set back, from {} to {}", global_step_, step));
  global_step_ = step;
}

std::int64_t ConditionalAccumulatorBase::global_step() const {
  const std::lock_guard lock(mutex_);
  return global_step_;
}

std::int64_t ConditionalAccumulatorBase::num_accumulated() const {
  const std::lock_guard lock(mutex_);
  return counter_;
}

std::size_t ConditionalAccumulatorBase::num_pending() const {
  const std::lock_guard lock(mutex_);
  return pending_.size();
}

/// Returns when `me` has been served; or throws, and nothing was taken.
void ConditionalAccumulatorBase::wait_for(Pending& me, const std::stop_token& stop) {
  if (me.n <= 0) fail(Code::invalid_argument, fmt::format("Argument num_required must be positive, but was {}", me.n));
  std::unique_lock lock(mutex_);
  if (!stop.stop_requested()) {
    pending_.push_back(&me);
    serve();
    if (!served_.wait(lock, stop, [&] { return me.served; })) {
      pending_.remove(&me);
      serve();                           // the one behind may have what it needs
    }
  }
  if (me.error) std::rethrow_exception(me.error);
  if (!me.served) fail(Code::cancelled, "TakeGrad operation was cancelled");
}

/// Under the lock. Gives the first takes what they wait for, in the thread that made it so: until the takers themselves were
/// awake more gradients might come, and the first of them would take those that the others wait for.
void ConditionalAccumulatorBase::serve() {
  while (!pending_.empty() && counter_ >= pending_.front()->n) {
    Pending& first = *pending_.front();
    pending_.pop_front();
    try {
      first.give(counter_);
      counter_ = 0;
      ++global_step_;
    } catch (...) {   // the taker's, who has asked for it
      first.error = std::current_exception();
    }
    first.served = true;
    served_.notify_all();
  }
}

Tensor ConditionalAccumulatorBase::on_host(const Tensor& tensor) const {
  if (tensor.dtype() != dtype_) {
    fail(Code::invalid_argument, fmt::format("a gradient of {} for an accumulator of {}", name(tensor.dtype()), name(dtype_)));
  }
  if (&tensor.device() == &host() && tensor.dense()) return tensor;
  Tensor copy(host(), dtype_, tensor.shape());
  copy.copy_from(tensor);
  return copy;
}

ConditionalAccumulator::ConditionalAccumulator(DType dtype, std::optional<Shape> shape, Reduction reduction, Log log)
    : ConditionalAccumulatorBase(dtype, reduction, std::move(log)), shape_(std::move(shape)) {}

void ConditionalAccumulator::check_shape(const Shape& shape, bool first) const {
  const auto refuse = [&](const Shape& expected) {
    fail(Code::invalid_argument, fmt::format("Shape mismatch: expected {}, got {}", expected.text(), shape.text()));
  };
  if (!first && !(shape == sum_.shape())) refuse(sum_.shape());
  if (shape_ && !compatible(*shape_, shape)) refuse(*shape_);
}

bool ConditionalAccumulator::apply_grad(const Tensor& gradient, std::int64_t local_step) {
  return apply(local_step, [&](bool first) {
    check_shape(gradient.shape(), first);
    const Tensor added = on_host(gradient);
    if (first) {
      sum_ = Tensor(host(), dtype(), gradient.shape());
      sum_.copy_from(added);
      return;
    }
    dispatch(dtype(), [&]<class T>() {
      if constexpr (std::is_floating_point_v<T>) {
        const T* from = added.data<T>();
        T* const to = sum_.data<T>();
        for (std::int64_t i = 0, n = sum_.elements(); i < n; ++i) to[i] += from[i];
      }
    });
  });
}

Tensor ConditionalAccumulator::take_grad(std::int64_t num_required, const std::stop_token& stop) {
  return take(num_required, stop, [&](std::int64_t counter) {
    if (reduction() == Reduction::mean) {
      dispatch(dtype(), [&]<class T>() {
        if constexpr (std::is_floating_point_v<T>) {
          std::for_each_n(sum_.data<T>(), sum_.elements(), [n = static_cast<T>(counter)](T& x) { x /= n; });
        }
      });
    }
    return std::exchange(sum_, Tensor());
  });
}

}  // namespace cohort
