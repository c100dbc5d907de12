#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cohort/base/thread_pool.hpp"
#include "cohort/params/gradient_range.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/params/parameters.hpp"
#include "params/unit_table.hpp"

namespace cohort {

/// Applies an optimizer to the parts of the flat space whose gradients a rank has, cut at the bounds of parameters and, where
/// the host computes, into pieces that threads can share.
class SliceUpdate {
 public:
  /// `partials`: a table for the optimizer's sums over whole parameters, of their width; may be null if it has none. `owned` may
  /// change where a gradient lies only before this.
  SliceUpdate(Parameters& parameters, const Optimizer& optimizer, Device& device, ThreadPool& pool,
              std::span<const GradientRange> owned, UnitTable* partials);

  /// Values lie elsewhere now, where Parameters says; gradients `to` as they lay `from`: the same parts in the same order.
  void values_moved();
  void take_gradients(const float* from, const float* to);

  /// `share`: called once this rank has filled in its rows of the table; afterwards all rows are there.
  void run(const StepInfo& info, const std::function<void()>& share);

 private:
  static constexpr std::int64_t kUnit = ParameterLayout::kUnit;
  static constexpr std::int64_t kLongest = 64 * kUnit;       // elements of a slice: 5 streams of them fit into a second-level cache
  static constexpr std::size_t kMostSlots = 8;

  void make_slices(std::span<const GradientRange> owned);
  void update_slices(Stream& stream, const StepInfo& info);
  void add_partials(Stream& stream, const StepInfo& info);
  void join_partials();

  Parameters& parameters_;
  const Optimizer& optimizer_;
  Device& device_;
  ThreadPool& pool_;
  UnitTable* partials_;
  std::vector<ParameterSlice> slices_;
  std::vector<std::int64_t> offsets_;       // by slice: of the flat index space
  std::vector<float*> slot_pointers_;       // by slice, then slot
  std::vector<double> sums_;                // by parameter, then sum
};

}  // namespace cohort
