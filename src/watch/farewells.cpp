#include "watch/farewells.hpp"

#include <algorithm>

namespace cohort {
namespace {

constexpr double kLateFarewell = 1;        // seconds behind the other coordinator's

}  // namespace

bool Farewells::complete(const CoordinatorLinks& links, const Membership& membership, double now) const {
  if (!any()) return false;
  const bool late = now > first_at_ + std::max(kLateFarewell, membership.heartbeat_timeout());
  for (std::size_t c = 0; c < kCoordinators; ++c) {
    const bool may_be_missing = !links[c].open() || (late && membership.may_lose(static_cast<int>(c)));
    if (!said_[c] && !may_be_missing) return false;
  }
  return true;
}

}  // namespace cohort
