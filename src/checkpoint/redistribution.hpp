#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "cohort/params/residual_keeper.hpp"

namespace cohort {

/// Hands the residuals of error feedback to the ranks that go on, where maybe other ranks kept them: those of rank r go to rank
/// r modulo the number of ranks that go on, which adds up what it gets in the order of ranks. So their sum stays what it was. Where a
/// residual may have come to another rank, or to one that uses other elements of it, the next gradient delivers all of them in float32.
class Redistribution {
 public:
  /// So many ranks kept residuals, and so many go on.
  Redistribution(int before, int after) : before_(before), after_(after) {}

  [[nodiscard]] int heir(int rank) const noexcept { return rank % after_; }
  /// The ranks whose residuals rank `me` of those that go on gets, in the order of ranks.
  [[nodiscard]] std::vector<int> inherited_by(int me) const;

  /// This rank has zeros to begin with, whatever it gets.
  void begin_with_zeros(const ResidualKeeper& keeper);
  /// Adds all residuals that the keeper shows.
  void add(const ResidualKeeper& keeper);
  /// Adds a residual, told by its number in the order in which keepers show theirs; the first one is taken as it is.
  void add(std::size_t residual, const std::vector<float>& values);

  /// Collective over `ranks`. The sums become the residuals of `keeper`, which keeps its own where nothing was added; null where a
  /// rank does not go on. `layout`: with which the residuals of this rank were kept; nothing if it has not kept any. True if
  /// they are delivered by one step in float32.
  bool finish(Communicator& ranks, ResidualKeeper* keeper, std::optional<std::int64_t> layout) const;

 private:
  [[nodiscard]] std::vector<float>& sum(std::size_t residual);

  int before_, after_;
  std::vector<std::vector<float>> sums_;
};

}  // namespace cohort
