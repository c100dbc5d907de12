#include "exchange/node_sharded_reduction.hpp"

#include <fmt/core.h>

#include "cohort/base/random.hpp"

namespace cohort {
namespace {

/// A hash of the parts of the flat index space that a rank owns.
std::int64_t layout_of(std::span<const GradientRange> owned) {
  std::string text;
  for (const GradientRange& mine : owned) text += fmt::format("{} {},", mine.begin, mine.n);
  return static_cast<std::int64_t>(stream_of(text));
}

std::unique_ptr<Collective> make_within(NodeGroup& group, const CollectiveOptions& options) {
  CollectiveOptions exact = options.with_codec("fp32");
  exact.algorithm = node_memory_algorithm(options.algorithm);
  return make_collective(group.node(), exact);
}

}  // namespace

NodeShardedReduction::NodeShardedReduction(const ReductionContext& c, NodeGroup& group) : within_(make_within(group, c.options.collective)) {
  within_->trace_to("exchange");
  if (group.between() != nullptr) {
    CollectiveOptions options = c.options.collective;
    options.rank = c.communicator.rank();                  // ranks of a machine round differently
    between_ = make_collective(*group.between(), options);
  }
  compression_ = std::make_unique<Compression>(c.layout, c.buckets, c.options, (between_ ? between_ : within_)->options());
  store_.emplace(c.layout, c.device, c.buckets.ranges(), [this](std::size_t bytes) { return within_->allocate(bytes); });
  if (between_) between_works_.emplace(*between_, Operation::all_reduce, *compression_);
  for (std::size_t b = 0; b < c.buckets.size(); ++b) {
    const FlatRange range = c.buckets.ranges()[b];
    float* const data = store_->host_memory(b);
    const auto n = static_cast<std::size_t>(range.n);
    within_works_.push_back(&within_->reduce_scatter({.id = static_cast<int>(b), .data = data, .n = n}));
    const Block mine = within_->block(within_->communicator().rank(), n);
    if (between_works_) between_works_->add(data, mine);
    owned_.push_back({.begin = range.begin + static_cast<std::int64_t>(mine.begin), .n = static_cast<std::int64_t>(mine.size), .gradient = data + mine.begin});
  }
  compression_->feedback().set_layout(layout_of(owned_));
  if (between_works_ && !compression_->lossy()) between_works_->select(Encoding::exact);
  scalar_sum_.emplace(c.communicator, c.options.collective, static_cast<int>(owned_.size()));
  squares_ = std::make_unique<GranuleSquares>(UnitTable(c.layout.flat_size(), 1, &group));
}

void NodeShardedReduction::begin(std::int64_t step, std::int64_t batch) {
  step_ = step;
  launched_ = launched_between_ = 0;
  if (batch > 0) return;
  const Encoding encoding = compression_->select_encoding(step);
  if (between_works_) between_works_->select(encoding);
}

void NodeShardedReduction::launch(std::size_t bucket) {
  compression_->before_launch(bucket, store_->host_memory(bucket));
  within_works_[bucket]->start(step_);
  launched_ = bucket + 1;
}

bool NodeShardedReduction::poll() {
  const bool summed_within = within_->advance();
  if (!between_works_) return summed_within;
  while (launched_between_ < launched_ && !within_works_[launched_between_]->running()) between_works_->start(launched_between_++, step_);
  return between_->advance() && launched_between_ == launched_;
}

void NodeShardedReduction::end_batch(const StepScalars* mine) {
  if (mine != nullptr) scalar_sum_->set(*mine);
}

/// Behind the sum of the scalars all ranks of the machine have measured their blocks.
StepScalars NodeShardedReduction::finish() {
  for (std::size_t b = 0; b < owned_.size(); ++b) squares_->measure(owned_[b], host_sums(b));
  compression_->end(scalar_sum_->communicator(), [this](std::size_t b) { return (*between_works_)[b].sent(); });
  scalar_sum_->start(step_);
  return scalar_sum_->wait();
}

std::string NodeShardedReduction::text() const {
  return within_->describe() + (between_ ? " and, between machines, " + between_->describe() : "") + ", one copy of the parameters per machine";
}

}  // namespace cohort
