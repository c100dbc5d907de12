#pragma once

#include <optional>

#include "exchange/encoded_works.hpp"
#include "exchange/reduction.hpp"
#include "exchange/scalar_sum.hpp"

namespace cohort {

/// Every rank gets all sums, by an all-reduce of each bucket. The step's scalars are the end of the last bucket or, where the
/// codec is not exact, travel beside it.
class ReplicatedReduction final : public Reduction {
 public:
  /// Collective.
  explicit ReplicatedReduction(const ReductionContext& context);

  void begin(std::int64_t step, std::int64_t batch) override;
  void launch(std::size_t bucket) override;
  bool poll() override { return collective_->advance(); }
  void end_batch(const StepScalars* mine) override;
  StepScalars finish() override;
  [[nodiscard]] Work& first_work(std::size_t bucket) override { return (*works_)[bucket]; }
  [[nodiscard]] Communicator& communicator() noexcept override { return collective_->communicator(); }
  [[nodiscard]] const GradientStore* store() const noexcept override { return &*store_; }
  [[nodiscard]] std::string text() const override { return collective_->describe(); }

 private:
  /// Where the scalars lie behind the gradients of the last bucket.
  [[nodiscard]] float* scalars_in_bucket() const;

  std::optional<GradientStore> store_;      // outlives the collective: after an error its messages may still be on their way
  std::unique_ptr<Collective> collective_;
  std::optional<EncodedWorks> works_;
  std::optional<ScalarSum> scalar_sum_;     // where the codec is not exact
  std::int64_t step_ = -1;
};

}  // namespace cohort
