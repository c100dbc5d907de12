#include "cohort/watch/membership.hpp"

#include <algorithm>
#include <ranges>

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

/// What happened to it last.
bool Membership::is_lost(int rank) const {
  for (const Change& change : changes_ | std::views::reverse) {
    if (change.rank == rank) return change.lost;
  }
  return false;
}

void Membership::lose(int rank, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (std::ranges::find(may_lose_, rank) == may_lose_.end() || is_lost(rank)) return;
  changes_.push_back({rank, true, reason});
  count_.fetch_add(1, std::memory_order_release);
}

void Membership::replace(int rank, const std::string& host) {
  const std::lock_guard lock(mutex_);
  if (is_lost(rank)) changes_.push_back({rank, false, host});
}

bool Membership::lost(int rank) const {
  const std::lock_guard lock(mutex_);
  return is_lost(rank);
}

int Membership::times_lost(int rank) const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(std::ranges::count_if(changes_, [&](const Change& change) { return change.rank == rank && change.lost; }));
}

std::vector<Membership::Loss> Membership::losses() const {
  const std::lock_guard lock(mutex_);
  std::vector<Loss> losses;
  for (const Change& change : changes_) {
    if (change.lost) losses.push_back({change.rank, change.text});
  }
  return losses;
}

std::vector<Membership::Change> Membership::changes(std::size_t from) const {
  const std::lock_guard lock(mutex_);
  if (from >= changes_.size()) return {};
  return {changes_.begin() + static_cast<std::ptrdiff_t>(from), changes_.end()};
}

void Membership::set_door(const std::string& door) {
  const std::lock_guard lock(mutex_);
  door_ = door;
}

std::string Membership::door() const {
  const std::lock_guard lock(mutex_);
  return door_;
}

}  // namespace cohort
