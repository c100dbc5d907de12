#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "exchange/batch_sums.hpp"
#include "exchange/bucket_driver.hpp"
#include "exchange/bucketizer.hpp"
#include "exchange/reduction.hpp"

namespace cohort {

using ReductionBuilder = std::function<std::unique_ptr<Reduction>(const ReductionContext&)>;

/// The builder of a way of summing that needs no more than its context.
template <class R>
std::unique_ptr<Reduction> build_reduction(const ReductionContext& context) {
  return std::make_unique<R>(context);
}

/// Sums the gradients over the ranks, bucket by bucket in one fixed order, while the backward pass still runs: which buckets there
/// are, when each is launched, and what several batches of an update make together. How the ranks sum is its reduction's business.
class GradientExchange {
 public:
  /// Collective. `own_thread`: a thread of its own drives it, where the transport allows that; else `poll` does. Error
  /// failed_precondition for what the device or the transport cannot do.
  GradientExchange(Communicator& communicator, const ParameterLayout& layout, Device& device, const ExchangeOptions& options,
                   const ReductionBuilder& reduction, bool own_thread = false);

  [[nodiscard]] Reduction& reduction() const noexcept { return *reduction_; }
  /// Is every batch of an update summed over the ranks by itself? Else each rank adds up its own before they become ready.
  [[nodiscard]] bool each_batch() const noexcept { return batch_sums_.has_value() || reduction_->store() == nullptr; }

  /// Collective, each: one step is begin, ready(p) once for every p in any order, poll any number of times, finish.
  void begin(std::int64_t step);
  /// The gradient is in the reduction's store or, where there is none, in `value`; null: it is zero.
  void ready(std::size_t parameter, const Tensor* value = nullptr);
  void poll() { driver_->poll(); }
  /// With each_batch(), between the batches of a step: waits for the sums and keeps them. Then every p becomes ready anew.
  void end_batch();
  /// Launches what is left and waits. Afterwards the reduction's owned gradients and what is returned are sums over the ranks, and
  /// no rank computes gradients any more.
  StepScalars finish(const StepScalars& mine);
  /// After `finish`, where the step is skipped: what its gradients would have delivered of the residuals is as late as before.
  void take_back();

  [[nodiscard]] std::string text() const;                           ///< how the sums come about, for people
  /// As the function of that name says, of the ranks that train.
  [[nodiscard]] std::string codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const;

 private:
  const ParameterLayout& layout_;
  Profile& profile_;
  Bucketizer buckets_;
  std::unique_ptr<Reduction> reduction_;
  std::optional<BatchSums> batch_sums_;     // where every batch is summed by itself and the reduction does not add them up
  std::int64_t step_ = -1, batch_ = 0;      // batch: of the step
  std::string why_no_thread_;               // although one is wanted: for people
  std::unique_ptr<BucketDriver> driver_;    // last: its thread uses the others
};

}  // namespace cohort
