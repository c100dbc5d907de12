#include "tasks/virtual_report.hpp"

#include <fmt/core.h>

#include <cmath>

namespace cohort {

void VirtualReport::begin_step(double now, bool ends) {
  if (ends) steps_.push_back(now - step_began_);
  step_began_ = now;
}

double VirtualReport::mean() const {
  double sum = 0;
  for (const double each : steps_) sum += each;
  return sum / static_cast<double>(steps_.size());
}

/// The least of them that so large a share does not exceed.
double VirtualReport::quantile(double share) const {
  std::vector<double> some = steps_;
  const auto at = std::clamp<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(std::ceil(share * static_cast<double>(some.size()))) - 1, 0, std::ssize(some) - 1);
  std::ranges::nth_element(some, some.begin() + at);
  return some[static_cast<std::size_t>(at)];
}

void VirtualReport::log(const MetricSink& metrics, double now, std::int64_t step, bool end) const {
  metrics.log("virtual_time", now);
  if (now > 0) metrics.log("updates_per_virtual_time", updates_per_unit(now, step));
  metrics.log("largest_gap", static_cast<double>(largest_gap_));
  if (!end || steps_.empty()) return;
  metrics.log("virtual_step/mean", mean());
  metrics.log("virtual_step/p50", quantile(0.5));
  metrics.log("virtual_step/p95", quantile(0.95));
}

std::string VirtualReport::text(double now, std::int64_t step) const {
  std::string text = fmt::format("virtual time {:.2f} (the mean time of a gradient is 1), {:.4f} updates per unit, largest gap between learners {} gradients",
                                 now, now > 0 ? updates_per_unit(now, step) : 0, largest_gap_);
  if (steps_.empty()) return text;
  return text + fmt::format("\nvirtual time of a step: mean {:.4f}, p50 {:.4f}, p95 {:.4f}", mean(), quantile(0.5), quantile(0.95));
}

}  // namespace cohort
