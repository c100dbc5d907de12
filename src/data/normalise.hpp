#pragma once

#include <cmath>

#include "cohort/base/error.hpp"
#include "cohort/base/options.hpp"

namespace cohort {

/// x -> (x * scale - mean) / deviation, as every reader offers it for its float fields.
struct Normalise {
  double scale = 1, mean = 0, deviation = 1;

  void bind(Section& section) {
    section.bind("scale", scale, "stored values are multiplied by this first");
    section.bind("mean", mean, "then this is subtracted");
    section.bind("std", deviation, "then the result is divided by this", above(0));
  }
  [[nodiscard]] bool any() const noexcept { return scale != 1 || mean != 0 || deviation != 1; }
  /// Error invalid_argument if stored values from 0 to `most` do not stay within float32.
  void require_in_range(const Section& section, double most) const {
    if (std::isfinite((*this)(0)) && std::isfinite((*this)(most))) return;
    fail(Code::invalid_argument, section.path() + ": scale, mean and std bring stored values beyond float32");
  }
  /// Infinite where the result is beyond float32.
  [[nodiscard]] float operator()(double stored) const { return static_cast<float>((stored * scale - mean) / deviation); }
};

}  // namespace cohort
