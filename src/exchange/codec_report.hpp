#pragma once

#include <functional>
#include <span>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/exchange/bucket_report.hpp"
#include "exchange/residual_alarm.hpp"

namespace cohort {

/// Of an observed step: what encodings lose, bucket by bucket and over all ranks. Costs a pass over the gradients.
class CodecReport {
 public:
  explicit CodecReport(std::size_t buckets) : norms_(buckets), alarms_(buckets) {}

  /// Collective in what it does to the next step.
  void observe_next_step() noexcept { wanted_ = true; }
  /// A step begins; `compressed`: it encodes its gradients.
  void begin(std::int64_t step, bool compressed);
  /// A part of a bucket is about to be encoded; `bucket`, `residual`: all of it in host memory, residual may be null.
  void before_encoding(int id, const Codec& codec, Block part, const float* bucket, const float* residual);
  /// Collective, once the step's sums are there. `sent`: by this rank, of a bucket.
  void end(Communicator& all, const std::function<Traffic(std::size_t bucket)>& sent);

  /// Of the last step, if it was observed and compressed; else empty.
  [[nodiscard]] std::span<const BucketReport> reports() const noexcept { return reports_; }

 private:
  struct Norms {
    double wanted = 0, lost = 0, given = 0, residual = 0;     // squares: gradient + residual, what its encoding loses, gradient
  };
  void raise_alarm(Communicator& all, std::size_t bucket);

  std::int64_t step_ = -1;
  bool wanted_ = false, observes_ = false;
  std::vector<Norms> norms_;                // by bucket
  std::vector<ResidualAlarm> alarms_;       // by bucket
  std::vector<BucketReport> reports_;
};

}  // namespace cohort
