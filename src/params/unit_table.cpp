#include "params/unit_table.hpp"

#include <algorithm>
#include <utility>

namespace cohort {

UnitTable::UnitTable(std::int64_t flat_size, std::size_t width, NodeGroup* group) : units_(flat_size / ParameterLayout::kUnit), width_(width) {
  const std::size_t bytes = static_cast<std::size_t>(units_) * width * sizeof(double);
  memory_ = group != nullptr ? group->allocate(bytes) : host().allocate(bytes);
  data_ = static_cast<double*>(memory_.memory.get());
}

UnitTable::UnitTable(Communicator& communicator, std::span<const FlatRange> buckets, std::size_t width, std::size_t extra,
                     const CollectiveOptions& options)
    : units_(buckets.empty() ? 0 : buckets.back().end() / ParameterLayout::kUnit), width_(width), extra_(extra) {
  constexpr auto unit = static_cast<std::size_t>(ParameterLayout::kUnit);
  const auto ranks = static_cast<std::size_t>(communicator.size());
  std::vector<std::vector<std::size_t>> units_of(ranks);
  for (const FlatRange& bucket : buckets) {
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const Block mine = block_of(static_cast<int>(rank), communicator.size(), static_cast<std::size_t>(bucket.n));
      for (std::size_t at = 0; at < mine.size; at += unit) units_of[rank].push_back((static_cast<std::size_t>(bucket.begin) + mine.begin + at) / unit);
    }
  }
  // All regions are as long as the longest, a multiple of what blocks never cut: so block r of the table is rank r's region.
  constexpr std::size_t kDoubles = kBlockUnit * sizeof(float) / sizeof(double);
  const std::size_t rows = (std::ranges::max(units_of, {}, &std::vector<std::size_t>::size).size() * width + extra + width - 1) / width;
  region_ = (rows * width + kDoubles - 1) / kDoubles * kDoubles;
  while (region_ % width != 0) region_ += kDoubles;      // rows begin at multiples of their width
  rows_.resize(static_cast<std::size_t>(units_));
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    for (std::size_t i = 0; i < units_of[rank].size(); ++i) rows_[units_of[rank][i]] = static_cast<std::uint32_t>(rank * region_ / width + i);
  }
  collective_ = make_collective(communicator, options.with_codec("fp32"));
  const std::size_t floats = ranks * region_ * sizeof(double) / sizeof(float);
  memory_ = collective_->allocate(floats * sizeof(float));
  data_ = static_cast<double*>(memory_.memory.get());
  gather_ = &collective_->all_gather({.id = 0, .data = static_cast<float*>(memory_.memory.get()), .n = floats});
}

std::span<double> UnitTable::extra(int rank) const {
  return {data_ + (static_cast<std::size_t>(rank) + 1) * region_ - extra_, extra_};
}

void UnitTable::share(std::int64_t step) {
  if (gather_ == nullptr) return;
  gather_->start(step);
  gather_->wait();
}

}  // namespace cohort
