#pragma once

#include <span>

#include "exchange/bucket_buffers.hpp"
#include "exchange/zero_reduction.hpp"

namespace cohort {

/// Stages 2 and 3: a gradient is copied into its bucket's buffer when it is ready, and from there the rank's block of the sums into
/// memory of its own, added up batch by batch of an update: nothing else of a bucket stays.
class ZeroStreamedReduction final : public ZeroReduction {
 public:
  /// Collective.
  explicit ZeroStreamedReduction(const ReductionContext& context);

  /// Collective, before the first step: the order in which its gradients will become ready. Else it is that of the parameters.
  void follow(std::span<const std::size_t> order);

  void begin(std::int64_t step, std::int64_t batch) override;
  void ready(std::size_t parameter, const Tensor* value) override;
  void launch(std::size_t bucket) override;
  bool poll() override;
  [[nodiscard]] const GradientStore* store() const noexcept override { return nullptr; }
  [[nodiscard]] float* host_sums(std::size_t bucket) const override { return owned_[bucket].gradient; }
  [[nodiscard]] GradientMemory memory() const noexcept override;

 private:
  void copy_gradient(std::size_t parameter, const Tensor* value);
  void wait_for_block(std::size_t bucket);
  void keep_block(std::size_t bucket);

  const ParameterLayout& layout_;
  Device& device_;
  const Bucketizer& buckets_;
  BucketBuffers buffers_;
  Tensor blocks_;                           // this rank's sums, block by block
  std::size_t launched_ = 0, kept_ = 0;     // so many buckets of the batch; kept: whose sums have left their buffer
  std::int64_t batch_ = 0;                  // of the update
};

}  // namespace cohort
