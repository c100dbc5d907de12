#pragma once

#include <utility>

#include "cohort/params/gradient_range.hpp"
#include "params/unit_table.hpp"

namespace cohort {

/// Σ x² over a granule: ParameterLayout::kUnit elements of the flat index space. In double, in an order that depends on nothing else.
[[nodiscard]] double squares_of_granule(const float* x);

/// Σ g² of all gradients, with the same bits however the flat index space is shared out between the ranks: each measures the
/// granules whose sums it has, and who has the table adds them up in their order.
class GranuleSquares {
 public:
  /// `table`: what a UnitTable is made of, but for its width.
  explicit GranuleSquares(UnitTable table) : table_(std::move(table)) {}

  /// Writes the rows of a range; `gradient`: its first element, in host memory.
  void measure(const GradientRange& range, const float* gradient);
  /// Not finite if any gradient is not.
  [[nodiscard]] double sum() const;
  [[nodiscard]] UnitTable& table() noexcept { return table_; }

 private:
  UnitTable table_;
};

}  // namespace cohort
