#pragma once

#include <optional>
#include <vector>

#include "cohort/params/node_group.hpp"
#include "exchange/encoded_works.hpp"
#include "exchange/reduction.hpp"
#include "exchange/scalar_sum.hpp"

namespace cohort {

/// A machine keeps one copy of the parameters, and a rank gets the sums of its block of each bucket: the ranks of a machine
/// reduce-scatter in float32, then those with the same block on all machines all-reduce it, maybe through a codec.
class NodeShardedReduction final : public Reduction {
 public:
  /// Collective.
  NodeShardedReduction(const ReductionContext& context, NodeGroup& group);

  void begin(std::int64_t step, std::int64_t batch) override;
  void launch(std::size_t bucket) override;
  bool poll() override;
  void end_batch(const StepScalars* mine) override;
  StepScalars finish() override;
  [[nodiscard]] Work& first_work(std::size_t bucket) override { return *within_works_[bucket]; }
  [[nodiscard]] Communicator& communicator() noexcept override { return within_->communicator(); }
  [[nodiscard]] Work& current_work(std::size_t bucket) override { return bucket < launched_between_ ? (*between_works_)[bucket] : first_work(bucket); }
  [[nodiscard]] const GradientStore* store() const noexcept override { return &*store_; }
  [[nodiscard]] std::string text() const override;

 private:
  std::optional<GradientStore> store_;      // outlives the collectives: after an error their messages may still be on their way
  std::unique_ptr<Collective> within_, between_;      // the ranks of this machine, and those with this block; null: one machine
  std::vector<Work*> within_works_;         // by bucket
  std::optional<EncodedWorks> between_works_;
  std::optional<ScalarSum> scalar_sum_;
  std::size_t launched_ = 0, launched_between_ = 0;
  std::int64_t step_ = -1;
};

}  // namespace cohort
