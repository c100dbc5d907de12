#include "tasks/staleness.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace cohort {

std::vector<std::int64_t> StalenessCounts::with(const Aggregation& rules) const {
  std::vector<std::int64_t> all = earlier_;
  all.resize(std::max(all.size(), rules.staleness().size()), 0);
  for (std::size_t s = 0; s < rules.staleness().size(); ++s) all[s] += rules.staleness()[s];
  return all;
}

void StalenessCounts::log(const MetricSink& metrics, const Aggregation& rules) const {
  const std::vector<std::int64_t> all = with(rules);
  std::int64_t gradients = 0, sum = 0;
  for (std::size_t s = 0; s < all.size(); ++s) {
    gradients += all[s];
    sum += static_cast<std::int64_t>(s) * all[s];
  }
  metrics.log("staleness/mean", gradients > 0 ? static_cast<double>(sum) / static_cast<double>(gradients) : 0);
  metrics.log("staleness/largest", static_cast<double>(std::max<std::size_t>(all.size(), 1) - 1));
}

void StalenessCounts::log_each(const MetricSink& metrics, const Aggregation& rules) const {
  const std::vector<std::int64_t> all = with(rules);
  for (std::size_t s = 0; s < all.size(); ++s) {
    if (all[s] > 0) metrics.log(fmt::format("staleness/{}", s), static_cast<double>(all[s]));
  }
}

std::string StalenessCounts::text(const Aggregation& rules) const {
  std::string text = "staleness";
  const std::vector<std::int64_t> all = with(rules);
  for (std::size_t s = 0; s < all.size(); ++s) {
    if (all[s] > 0) text += fmt::format("  {}: {}", s, all[s]);
  }
  return text;
}

}  // namespace cohort
