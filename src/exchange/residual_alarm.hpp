#pragma once

#include <string>

namespace cohort {

/// Watches one bucket's residual ratio: error feedback works while it stays small, since then what is late is little.
class ResidualAlarm {
 public:
  /// The ratio at an observed step. Why to be alarmed, or empty: it has come over 1, or it has grown in five observations in a
  /// row and more than doubled in them. Said once, and again only after it has fallen.
  [[nodiscard]] std::string observe(double ratio);

 private:
  static constexpr int kGrowths = 5;
  double last_ = 0, before_growth_ = 0;
  int growths_ = 0;
  bool said_ = false;
};

}  // namespace cohort
