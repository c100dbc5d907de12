#include "cohort/watch/waiting.hpp"

#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {

std::string WaitStatus::text() const {
  std::string text = peer >= 0 ? "rank " + std::to_string(peer) : "other ranks";
  text += std::string(" in ") + (operation != nullptr ? operation : "nothing");
  if (bucket >= 0) text += " of bucket " + std::to_string(bucket);
  if (step >= 0) text += " at step " + std::to_string(step);
  return text;
}

void Activity::publish(const WaitStatus& status) noexcept {
  peer_.store(status.peer, std::memory_order_relaxed);
  step_.store(status.step, std::memory_order_relaxed);
  bucket_.store(status.bucket, std::memory_order_relaxed);
  since_.store(status.since, std::memory_order_relaxed);
  operation_.store(status.operation, std::memory_order_release);
}

WaitStatus Activity::read() const noexcept {
  return {.operation = operation_.load(std::memory_order_acquire),
          .peer = peer_.load(std::memory_order_relaxed),
          .step = step_.load(std::memory_order_relaxed),
          .bucket = bucket_.load(std::memory_order_relaxed),
          .since = since_.load(std::memory_order_relaxed)};
}

std::shared_ptr<Activity> RankActivity::add() {
  auto activity = std::make_shared<Activity>();
  const std::lock_guard lock(mutex_);
  std::erase_if(activities_, [](const auto& known) { return known.expired(); });
  activities_.push_back(activity);
  return activity;
}

WaitStatus RankActivity::longest_wait() const {
  WaitStatus longest;
  const std::lock_guard lock(mutex_);
  for (const auto& known : activities_) {
    const auto activity = known.lock();
    if (activity == nullptr) continue;
    const WaitStatus status = activity->read();
    if (status.operation == nullptr) continue;
    if (longest.operation == nullptr || status.since < longest.since) longest = status;
  }
  return longest;
}

void RankActivity::begin_disk_wait(std::shared_ptr<const DiskProgress> progress) {
  const std::lock_guard lock(mutex_);
  disk_waits_.push_back(std::move(progress));
}

void RankActivity::end_disk_wait(const DiskProgress* progress) {
  const std::lock_guard lock(mutex_);
  std::erase_if(disk_waits_, [&](const auto& wait) { return wait.get() == progress; });
}

std::shared_ptr<const DiskProgress> RankActivity::disk_wait() const {
  const std::lock_guard lock(mutex_);
  return disk_waits_.empty() ? nullptr : disk_waits_.front();
}

void RankActivity::arrive(StepPosition position) noexcept {
  step_.store(position.step, std::memory_order_relaxed);
  bucket_.store(position.bucket, std::memory_order_relaxed);
}

StepPosition RankActivity::position() const noexcept {
  return {.step = step_.load(std::memory_order_relaxed), .bucket = bucket_.load(std::memory_order_relaxed)};
}

void CancelFlag::set(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (set_.load(std::memory_order_relaxed)) return;
  reason_ = reason;
  set_.store(true, std::memory_order_release);
}

std::string CancelFlag::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

void CancelFlag::throw_reason() const { fail(Code::cancelled, reason()); }

}  // namespace cohort
