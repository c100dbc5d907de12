#include "cohort/comm/membership.hpp"

#include <algorithm>

namespace cohort {

void Membership::allow_losses(const std::vector<int>& ranks, double heartbeat_timeout) {
  const std::lock_guard lock(mutex_);
  may_lose_ = ranks;
  heartbeat_timeout_ = heartbeat_timeout;
}

bool Membership::may_lose(int rank) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::find(may_lose_, rank) != may_lose_.end();
}

double Membership::heartbeat_timeout() const {
  const std::lock_guard lock(mutex_);
  return heartbeat_timeout_;
}

void Membership::lose(int rank, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (std::ranges::find(may_lose_, rank) == may_lose_.end()) return;
  if (std::ranges::find(losses_, rank, &Loss::rank) != losses_.end()) return;
  losses_.push_back({rank, reason});
  count_.store(losses_.size(), std::memory_order_release);
}

bool Membership::lost(int rank) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::find(losses_, rank, &Loss::rank) != losses_.end();
}

std::vector<Membership::Loss> Membership::losses() const {
  const std::lock_guard lock(mutex_);
  return losses_;
}

}  // namespace cohort
