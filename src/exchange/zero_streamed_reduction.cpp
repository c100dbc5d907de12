#include "exchange/zero_streamed_reduction.hpp"

#include <algorithm>
#include <numeric>

namespace cohort {

ZeroStreamedReduction::ZeroStreamedReduction(const ReductionContext& c)
    : ZeroReduction(c), layout_(c.layout), device_(c.device), buckets_(c.buckets), buffers_(c.buckets) {
  std::int64_t all = 0;
  for (const FlatRange& range : buckets_.ranges()) all += block_of_range(range).n;
  blocks_ = Tensor(device_, DType::float32, {all});
  std::int64_t at = 0;
  for (const FlatRange& range : buckets_.ranges()) {
    const FlatRange mine = block_of_range(range);
    owned_.push_back({.begin = mine.begin, .n = mine.n, .gradient = blocks_.data<float>() + at});
    at += mine.n;
  }
}

void ZeroStreamedReduction::follow(std::span<const std::size_t> order) {
  check(!buffers_.assigned(), Code::internal, "the order of gradients is known already");
  std::vector<Buffer> memory(buffers_.assign(order));
  for (Buffer& buffer : memory) buffer = allocate(static_cast<std::size_t>(buffers_.longest()) * sizeof(float));
  buffers_.place(std::move(memory));
  place_buckets(buckets_, [this](std::size_t b) { return buffers_.data(b); });
}

void ZeroStreamedReduction::begin(std::int64_t step, std::int64_t batch) {
  if (!buffers_.assigned()) {
    std::vector<std::size_t> order(layout_.trained().size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    follow(order);
  }
  ZeroReduction::begin(step, batch);
  buffers_.begin();
  launched_ = kept_ = 0;
  batch_ = batch;
}

void ZeroStreamedReduction::ready(std::size_t parameter, const Tensor* value) {
  const std::optional<std::size_t> before = buffers_.take(buckets_.bucket_of(parameter));
  if (before) wait_for_block(*before);
  copy_gradient(parameter, value);
}

/// Into its bucket's buffer, where another bucket has been: padding and what aligns parameters must be zero again.
void ZeroStreamedReduction::copy_gradient(std::size_t parameter, const Tensor* value) {
  const Parameter& p = layout_.trained()[parameter];
  const std::size_t b = buckets_.bucket_of(parameter);
  const std::int64_t end = layout_.range(parameter, parameter + 1).n;
  float* const to = buffers_.data(b) + (p.offset - buckets_.ranges()[b].begin);
  if (value == nullptr) {
    std::fill_n(to, end, 0.f);
    return;
  }
  Tensor(device_, DType::float32, p.shape, to, nullptr, p.ld).copy_from(*value);
  const std::int64_t columns = p.shape.columns();
  for (std::int64_t row = 0; p.ld > columns && row < p.shape.rows(); ++row) std::fill_n(to + row * p.ld + columns, p.ld - columns, 0.f);
  std::fill(to + p.n, to + end, 0.f);
}

void ZeroStreamedReduction::launch(std::size_t bucket) {
  ZeroReduction::launch(bucket);
  launched_ = bucket + 1;
}

bool ZeroStreamedReduction::poll() {
  const bool done = ZeroReduction::poll();
  while (kept_ < launched_ && !first_work(kept_).running()) keep_block(kept_++);
  return done;
}

/// It is complete, so it has been launched.
void ZeroStreamedReduction::wait_for_block(std::size_t bucket) {
  const PhaseScope communicating(*communicator().context().profile, Phase::exchange);
  communicator().wait([this, bucket] { return first_work(bucket).status(); }, [this, bucket] {
    (void)poll();
    return kept_ > bucket;
  });
}

void ZeroStreamedReduction::keep_block(std::size_t bucket) {
  const GradientRange& mine = owned_[bucket];
  const float* const sums = buffers_.data(bucket) + (mine.begin - buckets_.ranges()[bucket].begin);
  if (batch_ == 0) std::copy_n(sums, mine.n, mine.gradient);
  else for (std::int64_t i = 0; i < mine.n; ++i) mine.gradient[i] += sums[i];
}

GradientMemory ZeroStreamedReduction::memory() const noexcept {
  const std::int64_t kept = blocks_.elements(), buffers = static_cast<std::int64_t>(buffers_.count()) * buffers_.longest();
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  return {.all = (kept + buffers) * kFloat, .kept = kept * kFloat, .apart = true};
}

}  // namespace cohort
