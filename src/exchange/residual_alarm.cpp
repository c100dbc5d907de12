#include "exchange/residual_alarm.hpp"

#include <fmt/core.h>

namespace cohort {

std::string ResidualAlarm::observe(double ratio) {
  if (ratio <= last_) {
    growths_ = 0;
    said_ = said_ && ratio > 1;
  } else if (growths_++ == 0) {
    before_growth_ = last_;
  }
  last_ = ratio;
  if (said_) return {};
  if (ratio > 1) {
    said_ = true;
    return fmt::format("the residual is {:.3g} times as large as the gradient", ratio);
  }
  if (growths_ < kGrowths || ratio <= 2 * before_growth_) return {};
  said_ = true;
  return fmt::format("the residual keeps growing, from {:.3g} to {:.3g} of the gradient", before_growth_, ratio);
}

}  // namespace cohort
