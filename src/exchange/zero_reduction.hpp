#pragma once

#include <functional>
#include <optional>

#include "exchange/encoded_works.hpp"
#include "exchange/reduction.hpp"

namespace cohort {

/// Every rank gets the sums of its block of each bucket, by a reduce-scatter over all ranks (ZeRO, Rajbhandari et al., SC20). Sums
/// of squares and the step's scalars meet in a table that all ranks get. What is left to the stages is where gradients lie.
class ZeroReduction : public Reduction {
 public:
  void begin(std::int64_t step, std::int64_t batch) override;
  void launch(std::size_t bucket) override;
  bool poll() override { return collective_->advance(); }
  void end_batch(const StepScalars* mine) override;
  StepScalars finish() override;
  [[nodiscard]] Work& first_work(std::size_t bucket) override { return (*works_)[bucket]; }
  [[nodiscard]] Communicator& communicator() noexcept override { return collective_->communicator(); }
  [[nodiscard]] std::string text() const override { return collective_->describe() + ", every rank sums its blocks"; }

 protected:
  /// Collective.
  explicit ZeroReduction(const ReductionContext& context);
  /// Collective. Where the floats of each bucket lie.
  void place_buckets(const Bucketizer& buckets, const std::function<float*(std::size_t bucket)>& data);
  /// This rank's block of a range.
  [[nodiscard]] FlatRange block_of_range(FlatRange range) const;
  /// Collective. Memory for buckets, which outlives the collective: after an error its messages may still be on their way.
  [[nodiscard]] Buffer allocate(std::size_t bytes) { return memory_.emplace_back(collective_->allocate(bytes)); }

 private:
  StepScalars share_scalars();

  std::vector<Buffer> memory_;
  std::unique_ptr<Collective> collective_;
  std::vector<float*> data_;                // by bucket: its floats
  std::optional<EncodedWorks> works_;
  StepScalars mine_;
  std::int64_t step_ = -1;
};

/// Stage 1: gradients have memory of their own, and lie there until the update.
class ZeroStoreReduction final : public ZeroReduction {
 public:
  /// Collective.
  explicit ZeroStoreReduction(const ReductionContext& context);
  [[nodiscard]] const GradientStore* store() const noexcept override { return &store_; }

 private:
  GradientStore store_;
};

}  // namespace cohort
