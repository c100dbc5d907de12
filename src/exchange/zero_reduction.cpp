#include "exchange/zero_reduction.hpp"

#include <algorithm>

namespace cohort {

ZeroReduction::ZeroReduction(const ReductionContext& c) {
  check(c.device.info().host_accessible, Code::failed_precondition,
        "sums in blocks need a device whose memory the host can reach, " + c.device.info().name() + " is none");
  collective_ = make_collective(c.communicator, c.options.collective);
  collective_->trace_to("exchange");
  compression_ = std::make_unique<Compression>(c.layout, c.buckets, c.options, collective_->options());
  works_.emplace(*collective_, Operation::reduce_scatter, *compression_);
  squares_ = std::make_unique<GranuleSquares>(UnitTable(c.communicator, c.buckets.ranges(), 1, StepScalars::kCount, c.options.collective));
}

void ZeroReduction::place_buckets(const Bucketizer& buckets, const std::function<float*(std::size_t bucket)>& data) {
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    data_.push_back(data(b));
    works_->add(data_.back(), {0, static_cast<std::size_t>(buckets.ranges()[b].n)});
  }
  if (!compression_->lossy()) works_->select(Encoding::exact);
}

FlatRange ZeroReduction::block_of_range(FlatRange range) const {
  const Block block = collective_->block(collective_->communicator().rank(), static_cast<std::size_t>(range.n));
  return {range.begin + static_cast<std::int64_t>(block.begin), static_cast<std::int64_t>(block.size)};
}

void ZeroReduction::begin(std::int64_t step, std::int64_t batch) {
  step_ = step;
  if (batch == 0) works_->select(compression_->select_encoding(step));
}

void ZeroReduction::launch(std::size_t bucket) {
  compression_->before_launch(bucket, data_[bucket]);
  works_->start(bucket, step_);
}

void ZeroReduction::end_batch(const StepScalars* mine) {
  if (mine != nullptr) mine_ = *mine;
}

StepScalars ZeroReduction::finish() {
  for (std::size_t b = 0; b < owned_.size(); ++b) squares_->measure(owned_[b], host_sums(b));
  compression_->end(communicator(), [this](std::size_t b) { return first_work(b).sent(); });
  return share_scalars();
}

/// The scalars travel with the squares; their sums are taken in rank order.
StepScalars ZeroReduction::share_scalars() {
  UnitTable& table = squares_->table();
  std::ranges::copy(mine_.numbers(), table.extra(communicator().rank()).begin());
  table.share(step_);
  StepScalars sums;
  for (int rank = 0; rank < communicator().size(); ++rank) {
    std::ranges::transform(sums.numbers(), table.extra(rank), sums.numbers().begin(), [](float sum, double theirs) { return sum + static_cast<float>(theirs); });
  }
  return sums;
}

ZeroStoreReduction::ZeroStoreReduction(const ReductionContext& c)
    : ZeroReduction(c), store_(c.layout, c.device, c.buckets.ranges(), [this](std::size_t bytes) { return allocate(bytes); }) {
  place_buckets(c.buckets, [this](std::size_t b) { return store_.host_memory(b); });
  for (std::size_t b = 0; b < c.buckets.size(); ++b) {
    const FlatRange range = c.buckets.ranges()[b], mine = block_of_range(range);
    owned_.push_back({.begin = mine.begin, .n = mine.n, .gradient = store_.host_memory(b) + (mine.begin - range.begin)});
  }
}

}  // namespace cohort
