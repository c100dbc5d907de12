#pragma once

#include <span>
#include <vector>

#include "cohort/params/parameters.hpp"

namespace cohort {

/// What batch norm and the like keep, as one row of floats: so workers send it, and learners of a replay have each their own.
class RunningStatistics {
 public:
  explicit RunningStatistics(const Parameters& parameters) : parameters_(parameters) {}

  [[nodiscard]] std::size_t elements() const;
  void read(std::vector<float>& values) const;
  void write(std::span<const float> values) const;

 private:
  const Parameters& parameters_;
};

/// The mean of several rows, summed in float64 in the order in which they are added.
class StatisticsMean {
 public:
  explicit StatisticsMean(std::size_t elements) : sums_(elements, 0) {}
  void add(std::span<const float> values);
  [[nodiscard]] int rows() const noexcept { return rows_; }
  /// Precondition: there are some.
  [[nodiscard]] std::vector<float> mean() const;

 private:
  std::vector<double> sums_;
  int rows_ = 0;
};

}  // namespace cohort
