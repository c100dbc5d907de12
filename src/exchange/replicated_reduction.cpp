#include "exchange/replicated_reduction.hpp"

#include <algorithm>

namespace cohort {

ReplicatedReduction::ReplicatedReduction(const ReductionContext& c) : collective_(make_collective(c.communicator, c.options.collective)) {
  collective_->trace_to("exchange");
  compression_ = std::make_unique<Compression>(c.layout, c.buckets, c.options, collective_->options());
  const std::size_t spare = compression_->lossy() ? 0 : StepScalars::kCount;
  store_.emplace(c.layout, c.device, c.buckets.ranges(), [this](std::size_t bytes) { return collective_->allocate(bytes); },
                 static_cast<std::int64_t>(spare));
  owned_.assign(store_->ranges().begin(), store_->ranges().end());
  works_.emplace(*collective_, Operation::all_reduce, *compression_);
  for (std::size_t b = 0; b < owned_.size(); ++b) {
    works_->add(store_->host_memory(b), {0, static_cast<std::size_t>(owned_[b].n) + (b + 1 == owned_.size() ? spare : 0)});
  }
  if (compression_->lossy()) scalar_sum_.emplace(c.communicator, c.options.collective, static_cast<int>(owned_.size()));
  else works_->select(Encoding::exact);
  squares_ = std::make_unique<GranuleSquares>(UnitTable(c.layout.flat_size(), 1, nullptr));
}

float* ReplicatedReduction::scalars_in_bucket() const { return store_->host_memory(owned_.size() - 1) + owned_.back().n; }

void ReplicatedReduction::begin(std::int64_t step, std::int64_t batch) {
  step_ = step;
  if (batch == 0) works_->select(compression_->select_encoding(step));
}

void ReplicatedReduction::launch(std::size_t bucket) {
  store_->copy_to_host(bucket);
  compression_->before_launch(bucket, store_->host_memory(bucket));
  works_->start(bucket, step_);
}

void ReplicatedReduction::end_batch(const StepScalars* mine) {
  const StepScalars scalars = mine != nullptr ? *mine : StepScalars{};
  if (!scalar_sum_) {
    std::ranges::copy(scalars.numbers(), scalars_in_bucket());
  } else if (mine != nullptr) {
    scalar_sum_->set(scalars);
    scalar_sum_->start(step_);
  }
}

StepScalars ReplicatedReduction::finish() {
  store_->copy_to_device();
  for (std::size_t b = 0; b < owned_.size(); ++b) squares_->measure(owned_[b], host_sums(b));
  Communicator& all = scalar_sum_ ? scalar_sum_->communicator() : collective_->communicator();
  compression_->end(all, [this](std::size_t b) { return first_work(b).sent(); });
  if (scalar_sum_) return scalar_sum_->wait();
  StepScalars sums;
  std::copy_n(scalars_in_bucket(), StepScalars::kCount, sums.numbers().begin());
  return sums;
}

}  // namespace cohort
