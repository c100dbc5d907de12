#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "cohort/base/profile.hpp"

namespace cohort {

/// Memory of one rank by purpose, in bytes.
struct MemorySummary {
  std::int64_t parameters = 0;       ///< values, the ones that no gradient changes included
  std::int64_t gradients = 0;
  std::int64_t slots = 0;            ///< of the optimizer
  std::int64_t activations = 0;      ///< the arena of the steps
  std::int64_t kernels = 0;          ///< constants and scratch memory
  std::int64_t batches = 0;          ///< input batches prepared ahead, in the host's memory
  std::int64_t communication = 0;    ///< buckets, beside the gradients in them
  std::int64_t device_total = 0;     ///< parameters to kernels: what the device's memory must hold
  std::int64_t least = 0;            ///< parameters, gradients, slots and the activations that live at the busiest moment
  [[nodiscard]] double ratio() const { return least > 0 ? static_cast<double>(device_total) / static_cast<double>(least) : 0; }
};

/// What one rank says about its run. Copied between ranks as it is.
struct RankSummary {
  std::array<char, 64> host{};
  double wall = 0;                               ///< seconds
  PhaseTimes seconds{};                          ///< by phase; they add up to `wall`
  PhaseTimes step_p50{}, step_p95{};             ///< by phase, of its time per step
  double p50 = 0, p95 = 0;                       ///< of the time per step
  double step_seconds = 0;                       ///< all steps together
  std::int64_t steps = 0, samples = 0;           ///< of this run, not of the one that it resumed; samples of this rank
  double flops = 0;                              ///< multiplications and additions of all steps, see Op::flops
  MemorySummary memory;

  void set_host(const std::string& name);
  [[nodiscard]] double samples_per_second() const { return step_seconds > 0 ? static_cast<double>(samples) / step_seconds : 0; }
  [[nodiscard]] double flops_per_second() const { return step_seconds > 0 ? flops / step_seconds : 0; }
};
static_assert(std::is_trivially_copyable_v<RankSummary>);

/// Fills in what a profile knows.
[[nodiscard]] RankSummary summary_of(const Profile& profile);

/// For people: where the time went, then memory, a line per rank; of more than 16 ranks the first, the one with the largest
/// and the one with the smallest share of computing, and the last.
[[nodiscard]] std::string summary_table(std::span<const RankSummary> ranks);

/// The same and more as JSON; `configuration` is the resolved job file.
[[nodiscard]] std::string summary_json(std::span<const RankSummary> ranks, const std::string& configuration);

}  // namespace cohort
