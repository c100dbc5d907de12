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
  explicit ReplicaSums(Communicator& communicator);

  /// Begins to count the sums of a step anew.
  void begin(std::int64_t step) {
    step_ = step;
    position_ = 0;
  }

  /// Collective. values := their sum, in float64 and rank order, so with the same bits on all ranks. Ranks that are not at
  /// the same sum of the same step throw the same Error failed_precondition. Every rank receives p·n values. Allocates only
  /// for more values than ever before.
  void sum(std::span<float> values);

 private:
  struct Header {
    std::int64_t step, position, count;
    bool operator==(const Header&) const = default;
  };
  void agree(const Header& mine);

  Communicator communicator_;
  std::int64_t step_ = 0, position_ = 0;
  std::vector<Header> headers_;          // by rank
  std::vector<double> mine_, gathered_;  // gathered: by rank, then value
};

}  // namespace cohort
