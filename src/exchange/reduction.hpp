#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cohort/exchange/step_scalars.hpp"
#include "cohort/params/gradient_range.hpp"
#include "exchange/bucketizer.hpp"
#include "exchange/compression.hpp"
#include "exchange/gradient_store.hpp"
#include "exchange/granule_squares.hpp"

namespace cohort {

/// What a way of summing is made for.
struct ReductionContext {
  Communicator& communicator;
  const ParameterLayout& layout;
  Device& device;
  const ExchangeOptions& options;
  const Bucketizer& buckets;
};

/// Bytes for gradients on one rank.
struct GradientMemory {
  std::int64_t all = 0;
  std::int64_t kept = 0;                  ///< of those that stay until the update
  bool apart = false;                     ///< those that stay have memory of their own
};

/// One way of summing the ranks' gradients, bucket by bucket in their order. It says where gradients lie, and whose sums this
/// rank gets. One thread at a time calls it; `launch` and `poll` may come from another one than the rest, between the begin of
/// a batch and its last sum.
class Reduction {
 public:
  virtual ~Reduction() = default;

  /// Collective. A batch of a step begins, from 0.
  virtual void begin(std::int64_t step, std::int64_t batch) = 0;
  /// A gradient is there; `value`: where no store has it, null for zero.
  virtual void ready(std::size_t /*parameter*/, const Tensor* /*value*/) {}
  /// Collective. A bucket is complete, as are all before it.
  virtual void launch(std::size_t bucket) = 0;
  /// Drives what has been launched, never blocks. True when all of it has its sums.
  virtual bool poll() = 0;
  /// Collective. All gradients of a batch are ready. `mine`: this rank's scalars, which travel with the last batch of a step;
  /// null: another one follows.
  virtual void end_batch(const StepScalars* mine) = 0;
  /// Collective. All buckets have their sums in host memory. Afterwards `owned` has them on the device, and what is returned are
  /// the sums of the scalars.
  virtual StepScalars finish() = 0;

  /// What a bucket's exchange begins with, and who drives that.
  [[nodiscard]] virtual Work& first_work(std::size_t bucket) = 0;
  [[nodiscard]] virtual Communicator& communicator() noexcept = 0;
  /// What a launched bucket is at.
  [[nodiscard]] virtual Work& current_work(std::size_t bucket) { return first_work(bucket); }

  /// Where gradients are written. Null: they live in the step's own memory until `ready`.
  [[nodiscard]] virtual const GradientStore* store() const noexcept = 0;
  /// Where the host finds this rank's sums of a bucket, as many as `owned` says.
  [[nodiscard]] virtual float* host_sums(std::size_t bucket) const;
  [[nodiscard]] virtual GradientMemory memory() const noexcept;
  [[nodiscard]] virtual std::string text() const = 0;                 ///< for people

  /// The parts of the flat index space whose sums this rank gets, by bucket, and where these lie on the device.
  [[nodiscard]] std::span<const GradientRange> owned() const noexcept { return owned_; }
  /// After `finish`: of all gradients, the same bits on all ranks.
  [[nodiscard]] double sum_of_squares() const { return squares_->sum(); }
  [[nodiscard]] Compression& compression() const noexcept { return *compression_; }

 protected:
  std::vector<GradientRange> owned_;
  std::unique_ptr<Compression> compression_;
  std::unique_ptr<GranuleSquares> squares_;
};

}  // namespace cohort
