// Several batches per update. Either every batch is summed over the ranks by itself and the sums are added up, the same
// whoever keeps which of them, or each rank adds up its own gradients and exchanges them once.
#include <algorithm>

#include "cohort/exchange/exchange.hpp"
#include "exchange/driver_thread.hpp"
#include "params/unit_table.hpp"

namespace cohort {

void GradientExchange::end_batch() {
  Bucket& last = buckets_.back();
  if (!words_apart()) std::fill_n(last.data() + last.n - kWords, kWords, 0.f);      // they travel with the last batch
  check(pending_.back().fetch_sub(1, std::memory_order_acq_rel) == 1, Code::internal,
        "a batch ends before all gradients are there");
  {
    const PhaseScope communicating(profile_, Phase::exchange);
    wait_for_buckets();
    if (!setting_.parts) keep_sums();
  }
  ++batch_;
  launch_all();
  if (thread_) thread_->start();
}

/// Of a batch that is not the last one of its update.
void GradientExchange::keep_sums() {
  float* kept = kept_sums_.data();
  for (std::size_t b = 0; b < buckets_.size(); kept += owned_[b++].n) {
    const float* const sums = host_sums(b);
    if (batch_ == 0) std::copy_n(sums, owned_[b].n, kept);
    else for (std::int64_t i = 0; i < owned_[b].n; ++i) kept[i] += sums[i];
  }
}

void GradientExchange::add_kept_sums() {
  const float* kept = kept_sums_.data();
  for (std::size_t b = 0; b < buckets_.size(); kept += owned_[b++].n) {
    float* const sums = host_sums(b);
    for (std::int64_t i = 0; i < owned_[b].n; ++i) sums[i] += kept[i];
  }
}

Tensor GradientExchange::accumulated(std::size_t parameter) {
  accumulated_.resize(static_cast<std::size_t>(parameters_.flat_size()));
  const Parameter& p = parameters_.trained()[parameter];
  return {host(), DType::float32, p.shape, accumulated_.data() + p.offset, nullptr, p.ld};
}

void GradientExchange::accumulate(std::size_t parameter) {
  const Tensor sum = accumulated(parameter);
  Tensor mine = gradient(parameter);
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

void GradientExchange::add_accumulated(std::size_t parameter) {
  if (accumulated_.empty()) return;
  accumulate(parameter);
  gradient(parameter).copy_from(accumulated(parameter));
}

void GradientExchange::clear_accumulated() { std::fill(accumulated_.begin(), accumulated_.end(), 0.f); }

}  // namespace cohort
