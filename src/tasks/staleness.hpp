#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cohort/run/aggregation.hpp"
#include "run/metric_sink.hpp"

namespace cohort {

/// How many gradients were how stale, over all phases of a run.
class StalenessCounts {
 public:
  /// A phase is over, these were its rules.
  void add(const Aggregation& rules) { earlier_ = with(rules); }
  /// With those of the phase at hand: by staleness, of all gradients that were judged.
  [[nodiscard]] std::vector<std::int64_t> with(const Aggregation& rules) const;
  /// Logs their mean and the largest.
  void log(const MetricSink& metrics, const Aggregation& rules) const;
  /// Logs all.
  void log_each(const MetricSink& metrics, const Aggregation& rules) const;
  [[nodiscard]] std::string text(const Aggregation& rules) const;

 private:
  std::vector<std::int64_t> earlier_;
};

}  // namespace cohort
