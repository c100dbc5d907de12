#pragma once

#include <cstddef>
#include <vector>

#include "exchange/gradient_store.hpp"

namespace cohort {

/// Several batches make one update: adds up the gradients that one rank computes for them, one batch after the other in the same
/// store, in host memory.
class GradientAccumulator {
 public:
  GradientAccumulator(const ParameterLayout& layout, const GradientStore& store) : layout_(layout), store_(store) {}

  /// `last`: of the update.
  void begin_batch(bool last) noexcept { last_ = last; }
  [[nodiscard]] bool in_last_batch() const noexcept { return last_; }
  /// The store has this batch's gradient. True: from here on it has the whole update's.
  [[nodiscard]] bool complete(std::size_t parameter);
  /// The store has all gradients of the batch: those that are not of the last one are kept.
  void end_batch();
  /// The update is over.
  void clear();

 private:
  [[nodiscard]] Tensor sum_of(std::size_t parameter);
  void add(std::size_t parameter);

  const ParameterLayout& layout_;
  const GradientStore& store_;
  std::vector<float> sums_;               // by flat index; empty until the first batch that is not the last
  bool last_ = true;
};

}  // namespace cohort
