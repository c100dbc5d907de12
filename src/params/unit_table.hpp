#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/params/node_group.hpp"
#include "cohort/params/parameter_layout.hpp"

namespace cohort {

/// A row of doubles for every unit of the flat index space (ParameterLayout::kUnit elements), such as partial sums of a norm. Whoever
/// owns a unit fills in its row; after `share` all ranks have all rows, bit by bit, so sums over them in their order are the same
/// however the units are shared out.
class UnitTable {
 public:
  /// Collective. A rank that owns everything (`group` null), or the ranks of a machine, which look into one table.
  UnitTable(std::int64_t flat_size, std::size_t width, NodeGroup* group);
  /// Collective. Every rank owns the blocks that `block_of` gives it of each of `buckets`; `extra` doubles of each rank travel
  /// along. `options`: how, but for the codec: every bit arrives.
  UnitTable(Communicator& communicator, std::span<const FlatRange> buckets, std::size_t width, std::size_t extra, const CollectiveOptions& options);

  [[nodiscard]] std::size_t width() const noexcept { return width_; }
  [[nodiscard]] std::int64_t units() const noexcept { return units_; }
  [[nodiscard]] std::span<double> row(std::int64_t unit) const {
    const std::size_t at = rows_.empty() ? static_cast<std::size_t>(unit) : rows_[static_cast<std::size_t>(unit)];
    return {data_ + at * width_, width_};
  }
  /// A rank's own doubles. Only where every rank owns blocks.
  [[nodiscard]] std::span<double> extra(int rank) const;
  /// Collective among those who fill it. In a group a barrier of its own has to follow: that is the caller's.
  void share(std::int64_t step);

 private:
  std::int64_t units_;
  std::size_t width_, extra_ = 0, region_ = 0;    // region: doubles of one rank
  Buffer memory_{};                               // outlives the collective
  double* data_ = nullptr;
  std::vector<std::uint32_t> rows_;               // by unit; empty: in order
  std::unique_ptr<Collective> collective_;
  Work* gather_ = nullptr;
};

}  // namespace cohort
