#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>

namespace cohort {

/// A model reports at most so many metrics beside its loss.
inline constexpr std::size_t kMostMetrics = 14;

/// A few numbers of a step that each rank contributes to and that travel along with its gradients. Nothing but numbers of type
/// T, one behind the other in this order, which is the order in which they travel.
template <class T>
struct StepScalarsOf {
  T loss = 0;                             ///< weighted by the rank's share of the batch, so that the sum over the ranks is the mean
  T stop = 0;                             ///< more than 0: a rank wants the run to end after this step
  std::array<T, kMostMetrics> metrics{};  ///< weighted as the loss is, in the order of the model

  /// All of them.
  static constexpr std::size_t kCount = 2 + kMostMetrics;
  [[nodiscard]] std::span<T, kCount> numbers() noexcept { return std::span<T, kCount>(reinterpret_cast<T*>(this), kCount); }
  [[nodiscard]] std::span<const T, kCount> numbers() const noexcept { return std::span<const T, kCount>(reinterpret_cast<const T*>(this), kCount); }
};

using StepScalars = StepScalarsOf<float>;
static_assert(sizeof(StepScalars) == StepScalars::kCount * sizeof(float) && std::is_standard_layout_v<StepScalars>);

/// Number by number, as another type.
template <class To, class From>
[[nodiscard]] StepScalarsOf<To> scalars_as(const StepScalarsOf<From>& from) {
  StepScalarsOf<To> to;
  std::ranges::transform(from.numbers(), to.numbers().begin(), [](From x) { return static_cast<To>(x); });
  return to;
}

}  // namespace cohort
