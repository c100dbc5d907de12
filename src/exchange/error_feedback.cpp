#include "exchange/error_feedback.hpp"

#include <algorithm>
#include <utility>

namespace cohort {
namespace {

/// Of the residuals, which are in order: the one of the parameter's bucket.
template <class Residuals>
const auto& holder_of(const Residuals& residuals, const Parameter& parameter) {
  return *(std::ranges::upper_bound(residuals, parameter.offset, {}, [](const auto& r) { return r.range.begin; }) - 1);
}

}  // namespace

ErrorFeedback::ErrorFeedback(const ParameterLayout& parameters, std::span<const FlatRange> buckets) : parameters_(parameters) {
  for (const FlatRange& range : buckets) residuals_.push_back({.range = range});
}

void ErrorFeedback::add_residual(std::size_t bucket) {
  Residual& residual = residuals_[bucket];
  residual.now.assign(static_cast<std::size_t>(residual.range.n), 0.f);
  residual.before = residual.now;
}

float* ErrorFeedback::residual(std::size_t bucket) {
  std::vector<float>& now = residuals_[bucket].now;
  return now.empty() ? nullptr : now.data();
}

void ErrorFeedback::begin(bool compressed) {
  step_.compressed = compressed;
  for (Residual& residual : residuals_) residual.saved = false;
}

void ErrorFeedback::before_launch(std::size_t bucket, float* gradients) {
  Residual& residual = residuals_[bucket];
  if (!residual.saved && (step_.compressed || flushes_)) residual.before = residual.now;      // as long: allocates nothing
  residual.saved = true;
  if (!flushes_) return;
  for (std::size_t i = 0; i < residual.now.size(); ++i) gradients[i] += std::exchange(residual.now[i], 0.f);
}

void ErrorFeedback::end() noexcept { step_.flushed = std::exchange(flushes_, false); }

void ErrorFeedback::take_back() {
  if (!step_.compressed && !step_.flushed) return;
  for (Residual& residual : residuals_) residual.now = residual.before;
  flushes_ = step_.flushed;
}

std::int64_t ErrorFeedback::bytes() const noexcept {
  std::size_t n = 0;
  for (const Residual& residual : residuals_) n += residual.now.size() + residual.before.size();
  return static_cast<std::int64_t>(n * sizeof(float));
}

Tensor ErrorFeedback::Residual::of(const Parameter& parameter) const {
  if (now.empty()) return Tensor::zeros(parameter.shape);
  auto* const first = const_cast<float*>(now.data());    // a tensor knows no const: who saves only reads
  return {host(), DType::float32, parameter.shape, first + (parameter.offset - range.begin), nullptr, parameter.ld};
}

void ErrorFeedback::save(StateWriter& writer) const {
  for (const Parameter& parameter : parameters_.trained()) {
    writer.tensor("residuals/" + parameter.name, holder_of(residuals_, parameter).of(parameter));
  }
}

void ErrorFeedback::load(StateReader& reader) {
  for (const Parameter& parameter : parameters_.trained()) {
    reader.tensor("residuals/" + parameter.name, holder_of(residuals_, parameter).of(parameter));
  }
}

}  // namespace cohort
