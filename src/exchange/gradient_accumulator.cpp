#include "exchange/gradient_accumulator.hpp"

#include <algorithm>

namespace cohort {

Tensor GradientAccumulator::sum_of(std::size_t parameter) {
  sums_.resize(static_cast<std::size_t>(layout_.flat_size()));
  const Parameter& p = layout_.trained()[parameter];
  return {host(), DType::float32, p.shape, sums_.data() + p.offset, nullptr, p.ld};
}

void GradientAccumulator::add(std::size_t parameter) {
  const Tensor sum = sum_of(parameter);
  Tensor mine = store_.gradient(parameter);
  if (!mine.device().info().host_accessible) {
    const Tensor copy(host(), DType::float32, mine.shape(), mine.ld());
    copy.copy_from(mine);
    mine = copy;
  }
  for (std::int64_t row = 0; row < sum.rows(); ++row) {
    const float* x = mine.data<float>() + row * mine.ld();
    float* y = sum.data<float>() + row * sum.ld();
    for (std::int64_t i = 0; i < sum.columns(); ++i) y[i] += x[i];
  }
}

bool GradientAccumulator::complete(std::size_t parameter) {
  if (!last_) return false;
  if (sums_.empty()) return true;
  add(parameter);
  store_.gradient(parameter).copy_from(sum_of(parameter));
  return true;
}

void GradientAccumulator::end_batch() {
  for (std::size_t p = 0; !last_ && p < layout_.trained().size(); ++p) add(p);
}

void GradientAccumulator::clear() { std::fill(sums_.begin(), sums_.end(), 0.f); }

}  // namespace cohort
