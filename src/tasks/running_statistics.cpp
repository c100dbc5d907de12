#include "tasks/running_statistics.hpp"

namespace cohort {

std::size_t RunningStatistics::elements() const {
  std::size_t n = 0;
  for (const Parameters::Other& other : parameters_.others()) n += other.statistic ? static_cast<std::size_t>(other.value.elements()) : 0;
  return n;
}

void RunningStatistics::read(std::vector<float>& values) const {
  values.clear();
  for (const Parameters::Other& other : parameters_.others()) {
    if (!other.statistic) continue;
    const std::vector<float> some = other.value.to_vector<float>();
    values.insert(values.end(), some.begin(), some.end());
  }
}

void RunningStatistics::write(std::span<const float> values) const {
  const float* from = values.data();
  for (const Parameters::Other& other : parameters_.others()) {
    if (!other.statistic) continue;
    other.value.copy_from(Tensor::of(other.value.shape(), std::vector<float>(from, from + other.value.elements())));
    from += other.value.elements();
  }
}

void StatisticsMean::add(std::span<const float> values) {
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += values[i];
  ++rows_;
}

std::vector<float> StatisticsMean::mean() const {
  std::vector<float> mean(sums_.size());
  for (std::size_t i = 0; i < mean.size(); ++i) mean[i] = static_cast<float>(sums_[i] / rows_);
  return mean;
}

}  // namespace cohort
