#pragma once

#include <cmath>

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
  [[nodiscard]] float operator()(double stored) const { return static_cast<float>((stored * scale - mean) / deviation); }
};

}  // namespace cohort
