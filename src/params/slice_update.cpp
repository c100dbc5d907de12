#include "params/slice_update.hpp"

#include <algorithm>
#include <array>

namespace cohort {

SliceUpdate::SliceUpdate(Parameters& parameters, const Optimizer& optimizer, Device& device, ThreadPool& pool,
                         std::span<const GradientRange> owned, UnitTable* partials)
    : parameters_(parameters), optimizer_(optimizer), device_(device), pool_(pool), partials_(partials) {
  check(parameters.slots().size() <= kMostSlots, Code::invalid_argument, "an optimizer may have at most 8 slots");
  make_slices(owned);
  sums_.resize(parameters_.layout().trained().size() * optimizer_.sums());
}

void SliceUpdate::make_slices(std::span<const GradientRange> owned) {
  const bool host_kernels = device_.info().kernels == "CPU";
  const auto all = parameters_.layout().trained();
  for (const GradientRange& mine : owned) {
    for (std::size_t p = 0; p < all.size(); ++p) {
      const std::int64_t begin = std::max(mine.begin, all[p].offset), end = std::min(mine.begin + mine.n, all[p].offset + all[p].n);
      const std::int64_t longest = host_kernels ? kLongest : std::max<std::int64_t>(end - begin, 1);
      for (std::int64_t at = begin; at < end; at += longest) {
        offsets_.push_back(at);
        slices_.push_back({.parameter = p, .group = &all[p].group, .value = parameters_.values().at(at),
                           .gradient = mine.gradient + (at - mine.begin), .n = std::min(longest, end - at)});
        for (std::size_t s = 0; s < parameters_.slots().size(); ++s) slot_pointers_.push_back(parameters_.slots()[s].values.at(at));
      }
    }
  }
  for (std::size_t i = 0; i < slices_.size(); ++i) {
    slices_[i].slots = std::span(slot_pointers_).subspan(i * parameters_.slots().size(), parameters_.slots().size());
  }
}

void SliceUpdate::values_moved() {
  for (std::size_t i = 0; i < slices_.size(); ++i) slices_[i].value = parameters_.values().at(offsets_[i]);
}

void SliceUpdate::take_gradients(const float* from, const float* to) {
  for (ParameterSlice& slice : slices_) slice.gradient = to + (slice.gradient - from);
}

void SliceUpdate::run(const StepInfo& info, const std::function<void()>& share) {
  Stream& stream = device_.stream();
  const bool direct = stream.immediate() || device_.info().kernels != "CPU";
  if (!sums_.empty()) {
    if (direct) {
      add_partials(stream, info);
    } else {
      stream.launch([this, info] { add_partials(host().stream(), info); });
      stream.synchronize();
    }
    share();
    join_partials();
  }
  // A device that runs host code later does so on memory that the host may touch only then.
  if (direct) update_slices(stream, info);
  else stream.launch([this, info] { update_slices(host().stream(), info); });
}

void SliceUpdate::update_slices(Stream& stream, const StepInfo& info) {
  const std::size_t width = optimizer_.sums();
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      optimizer_.update(stream, slices_[i], std::span(sums_).subspan(slices_[i].parameter * width, width), info);
    }
  };
  if (stream.immediate()) pool_.parallel_for(std::ssize(slices_), 4, range);
  else range(0, std::ssize(slices_));
}

/// Unit by unit, so that the sums do not depend on how the flat space is shared out.
void SliceUpdate::add_partials(Stream& stream, const StepInfo& info) {
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      const std::int64_t step = stream.immediate() ? kUnit : slices_[i].n;
      for (std::int64_t at = 0; at < slices_[i].n; at += step) {
        std::array<float*, kMostSlots> slots{};
        for (std::size_t s = 0; s < slices_[i].slots.size(); ++s) slots[s] = slices_[i].slots[s] + at;
        ParameterSlice part = slices_[i];
        part.value += at;
        part.gradient += at;
        part.slots = std::span(slots).first(slices_[i].slots.size());
        part.n = std::min(step, slices_[i].n - at);
        const std::span<double> sums = partials_->row((offsets_[i] + at) / kUnit);
        std::ranges::fill(sums, 0.0);
        optimizer_.partials(stream, part, info, sums);
      }
    }
  };
  if (stream.immediate()) pool_.parallel_for(std::ssize(slices_), 4, range);
  else range(0, std::ssize(slices_));
}

void SliceUpdate::join_partials() {
  const std::size_t width = optimizer_.sums();
  const std::int64_t step = device_.info().kernels == "CPU" ? kUnit : parameters_.layout().flat_size();
  std::ranges::fill(sums_, 0.0);
  for (std::size_t p = 0; p < parameters_.layout().trained().size(); ++p) {
    const Parameter& parameter = parameters_.layout().trained()[p];
    for (std::int64_t at = parameter.offset; at < parameter.offset + parameter.n; at += step) {
      const std::span<const double> row = partials_->row(at / kUnit);
      for (std::size_t k = 0; k < width; ++k) sums_[p * width + k] += row[k];
    }
  }
}

}  // namespace cohort
