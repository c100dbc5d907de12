#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/base/registry.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {

/// What an optimizer may know of the step at hand.
struct StepInfo {
  std::int64_t step = 0;              ///< steps before this one, whether they were applied or skipped
  std::int64_t applied = 0;           ///< updates applied before this one: 0 for the first; bias corrections count these
  double learning_rate = 0;
  double previous_learning_rate = 0;  ///< of the last applied update; equal to learning_rate where there is none
  double gradient_scale = 1;          ///< every gradient is to be multiplied by this (clipping) before use
};

/// Options of parameters whose names match a pattern ([[optimizer.group]]); the first match counts.
struct ParameterGroup {
  std::string pattern = "*";          ///< shell pattern on the full name: "*/bias"
  double learning_rate_factor = 1;
  bool decay = true;                  ///< weight decay and, for lars and lamb, layer-wise scaling
  bool frozen = false;                ///< never updated
};

/// A slice of one parameter with its gradient and slots; never crosses a parameter, so that block-wise updates are possible.
struct ParameterSlice {
  std::size_t parameter = 0;          ///< position in Parameters
  const ParameterGroup* group = nullptr;
  float* value = nullptr;
  const float* gradient = nullptr;
  std::span<float* const> slots{};    ///< in the order of Optimizer::slots()
  std::int64_t n = 0;

  [[nodiscard]] float rate(const StepInfo& info) const {   ///< this parameter's learning rate
    return static_cast<float>(info.learning_rate * group->learning_rate_factor);
  }
  [[nodiscard]] float decay(double weight_decay) const {   ///< this parameter's weight decay
    return group->decay ? static_cast<float>(weight_decay) : 0.f;
  }
};

/// A formula on one slice of the flat parameters. Stateless beside its options; everything it remembers lives in slots.
/// The memory is that of `stream`'s device; work is enqueued there by apply().
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// State per parameter element, zero at the start: {"m", "v"}.
  [[nodiscard]] virtual std::span<const std::string_view> slots() const = 0;
  /// How many sums over a whole parameter `update` needs (norms); 0 for most.
  [[nodiscard]] virtual std::size_t sums() const { return 0; }
  /// Adds this slice's share of the sums to `sums`, which are zero: the caller adds up slices in their order. Called, maybe by
  /// several threads at once, for every slice before any update, and only where sums() is not 0. Waits for the stream.
  virtual void partials(Stream&, const ParameterSlice&, const StepInfo&, std::span<double> /*sums*/) const {}
  virtual void update(Stream& stream, const ParameterSlice& slice, std::span<const double> sums,
                      const StepInfo& info) const = 0;
};

/// How an optimizer enters: its options are bound from the [optimizer] section.
struct OptimizerType {
  std::function<std::unique_ptr<Optimizer>(Section&)> make;
  std::string summary{};              ///< the update, and where the learning rate stands in it; for people
};
template <>
inline constexpr std::string_view kKindOf<OptimizerType> = "optimizer";

/// Key `type` of the section names the optimizer, the other keys are its options. Error invalid_argument with the known
/// names.
[[nodiscard]] std::unique_ptr<Optimizer> make_optimizer(Section& section);

}  // namespace cohort
