#pragma once

#include <cmath>

namespace cohort {

/// What the norm of an update's gradient decides. Ranks that know the same sum of squares decide alike without asking each other.
struct GradientVerdict {
  double norm = 0;
  bool finite = false;               ///< false: the update must be skipped
  double scale = 1;                  ///< what gradients are to be multiplied by, clipping included

  /// `sum_of_squares`: of all elements of the gradients, which are to be multiplied by `factor`; the norm is that of the
  /// product. `clip_norm`: the largest norm that an update may have; 0: any.
  GradientVerdict(double sum_of_squares, double factor, double clip_norm)
      : norm(factor * std::sqrt(sum_of_squares)), finite(std::isfinite(norm)),
        scale(clip_norm > 0 && norm > clip_norm ? factor * (clip_norm / norm) : factor) {}
};

}  // namespace cohort
