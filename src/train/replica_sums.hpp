#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cohort/comm/communicator.hpp"

namespace cohort {

/// Sums of a few numbers over all ranks in the middle of a step: what StepHooks::sum_over_replicas is for. Messages travel on
/// a communicator of their own, so they never meet those of the gradient exchange.
class ReplicaSums {
 public:
  /// Collective.
  explicit ReplicaSums(Communicator& communicator) : communicator_(communicator.duplicate()) {}

  /// Begins to count the sums of a step anew.
  void begin(std::int64_t step) {
    step_ = step;
    position_ = 0;
  }

  /// Collective. values := their sum, in float64 and rank order, so with the same bits on all ranks. Ranks that are not at
  /// the same sum of the same step throw the same Error failed_precondition. Every rank receives p·n values.
  void sum(std::span<float> values);

 private:
  Communicator communicator_;
  std::int64_t step_ = 0, position_ = 0;
  std::vector<double> sums_;
};

}  // namespace cohort
