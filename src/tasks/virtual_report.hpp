#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "run/metric_sink.hpp"

namespace cohort {

/// What people want to know of the virtual time that a replay has taken.
class VirtualReport {
 public:
  /// Training begins with this step.
  void begin(std::int64_t step) noexcept { first_step_ = step; }
  /// One learner is so many gradients ahead of another.
  void see_gap(std::int64_t gap) noexcept { largest_gap_ = std::max(largest_gap_, gap); }
  /// A step of virtual time begins now; with `ends`, one that is to be counted ends.
  void begin_step(double now, bool ends = false);

  void log(const MetricSink& metrics, double now, std::int64_t step, bool end) const;
  [[nodiscard]] std::string text(double now, std::int64_t step) const;

 private:
  [[nodiscard]] double mean() const;
  [[nodiscard]] double quantile(double share) const;
  [[nodiscard]] double updates_per_unit(double now, std::int64_t step) const { return static_cast<double>(step - first_step_) / now; }

  std::int64_t first_step_ = 0, largest_gap_ = 0;
  double step_began_ = 0;
  std::vector<double> steps_;                // durations, where updates are steps
};

}  // namespace cohort
