#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cohort/params/parameter_layout.hpp"
#include "cohort/params/residual_keeper.hpp"

namespace cohort {

/// What this rank's own encodings of gradients lost and still owes (Karimireddy et al., ICML 2019): one residual per element,
/// which is added to the next gradient before it is encoded, so that Σ ranks (gradient + residual before) = sum + Σ ranks
/// residual after. Learning rate and clipping come after the sum, so a residual is delivered at the rate of a later step. A
/// residual of a bucket may be missing: what its codec loses is lost.
class ErrorFeedback final : public ResidualKeeper {
 public:
  /// `buckets`: of the flat index space of `parameters`, which outlives this object.
  ErrorFeedback(const ParameterLayout& parameters, std::span<const FlatRange> buckets);

  /// A bucket has residuals from here on.
  void add_residual(std::size_t bucket);
  /// What a codec takes and leaves, element by element of the bucket; null if there is none.
  [[nodiscard]] float* residual(std::size_t bucket);
  /// Residuals are of the elements that `layout` stands for; 0, as at the start: of all.
  void set_layout(std::int64_t layout) noexcept { layout_ = layout; }

  /// A step begins; `compressed`: its gradients are encoded with residuals.
  void begin(bool compressed);
  /// Is this step, or the next one before its begin, to deliver all residuals in float32?
  [[nodiscard]] bool flushes() const noexcept { return flushes_; }
  /// A bucket's gradients, in host memory, are about to be exchanged. In a step that flushes the residuals are added to them.
  void before_launch(std::size_t bucket, float* gradients);
  /// The step's sums are there.
  void end() noexcept;
  /// After `end`, where the step is skipped: what its sums would have delivered is as late as before.
  void take_back();

  [[nodiscard]] std::int64_t bytes() const noexcept;

  [[nodiscard]] bool keeps_residuals() const noexcept override { return bytes() > 0; }
  void save(StateWriter& writer) const override;
  void load(StateReader& reader) override;
  [[nodiscard]] std::int64_t residual_layout() const override { return layout_; }
  void flush_residuals() noexcept override { flushes_ = true; }

 private:
  struct Residual {
    FlatRange range;
    std::vector<float> now{}, before{};    // before: at the step's first launch of the bucket
    bool saved = false;                    // in this step
    [[nodiscard]] Tensor of(const Parameter& parameter) const;     // zeros where there is none
  };
  struct ThisStep {
    bool compressed = false;
    bool flushed = false;                  // it has delivered the residuals
  };

  const ParameterLayout& parameters_;
  std::vector<Residual> residuals_;        // by bucket
  std::int64_t layout_ = 0;
  ThisStep step_;
  bool flushes_ = false;
};

}  // namespace cohort
