#pragma once

#include <array>
#include <cstddef>

#include "cohort/watch/membership.hpp"
#include "watch/meeting.hpp"

namespace cohort {

/// Which coordinators have said that all ranks have done their parts. One thread; times are the steady clock's.
class Farewells {
 public:
  void hear(std::size_t coordinator, double now) noexcept {
    said_[coordinator] = true;
    if (first_at_ == 0) first_at_ = now;
  }
  [[nodiscard]] bool any() const noexcept { return first_at_ > 0; }
  /// True when all have: a coordinator that has ended since the first one did needs no longer say it, nor one that may be lost just
  /// now.
  [[nodiscard]] bool complete(const CoordinatorLinks& links, const Membership& membership, double now) const;

 private:
  std::array<bool, kCoordinators> said_{};
  double first_at_ = 0;               // 0: nobody has
};

}  // namespace cohort
