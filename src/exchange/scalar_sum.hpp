#pragma once

#include <cstdint>
#include <memory>

#include "cohort/comm/collective.hpp"
#include "cohort/exchange/step_scalars.hpp"

namespace cohort {

/// Sums the scalars of a step over the ranks in an all-reduce of their own, where they cannot travel at the end of a bucket: a rank
/// does not get all of that bucket's sums, or its codec is not exact.
class ScalarSum {
 public:
  /// Collective. `options`: of the collective for gradients; `id`: of the message, behind all buckets.
  ScalarSum(Communicator& communicator, const CollectiveOptions& options, int id) {
    CollectiveOptions exact = options.with_codec("fp32");
    exact.algorithm = "auto";
    collective_ = make_collective(communicator, exact);
    work_ = &collective_->all_reduce({.id = id, .data = scalars_.numbers().data(), .n = StepScalars::kCount});
  }
  ScalarSum(const ScalarSum&) = delete;
  ScalarSum& operator=(const ScalarSum&) = delete;

  /// What this rank contributes.
  void set(const StepScalars& mine) noexcept { scalars_ = mine; }
  /// Collective. Returns at once.
  void start(std::int64_t step) { work_->start(step); }
  /// Collective. The sums.
  [[nodiscard]] const StepScalars& wait() {
    work_->wait();
    return scalars_;
  }
  [[nodiscard]] Communicator& communicator() noexcept { return collective_->communicator(); }

 private:
  StepScalars scalars_;                     // outlives the collective
  std::unique_ptr<Collective> collective_;
  Work* work_ = nullptr;
};

}  // namespace cohort
