#include "run/boundary_policy.hpp"

namespace cohort {
namespace {

/// An interval of 0 means never.
bool falls_on(std::int64_t count, std::int64_t interval) { return interval > 0 && count % interval == 0; }

}  // namespace

BoundaryPolicy::BoundaryPolicy(const TrainOptions& train, const CheckpointOptions& checkpoint, bool has_validation_data) noexcept
    : epochs_(train.epochs), max_steps_(train.max_steps), validate_every_(train.validate_every), save_every_epochs_(checkpoint.every_epochs),
      save_every_steps_(checkpoint.every_steps), has_validation_data_(has_validation_data) {}

bool BoundaryPolicy::over(const RunPoint& at) const noexcept {
  return at.stopped || at.position.epoch >= epochs_ || (max_steps_ > 0 && at.step >= max_steps_);
}

bool BoundaryPolicy::validates(const RunPoint& at) const noexcept {
  if (!has_validation_data_) return false;
  const bool epoch_ended = at.position.sample == 0 && at.position.epoch > 0;
  return (epoch_ended && falls_on(at.position.epoch, validate_every_)) || (over(at) && !at.stopped);
}

Boundary BoundaryPolicy::due(const RunPoint& at, std::int64_t phase_end) const noexcept {
  Boundary due{.end = over(at), .phase = at.position.epoch >= phase_end};
  due.evaluation = validates(at) && !at.stopped;
  due.save_of_epoch = due.end || (at.position.sample == 0 && falls_on(at.position.epoch, save_every_epochs_));
  due.save_of_step = (at.save_was_put_off || falls_on(at.step, save_every_steps_)) && at.step != at.saved_step;
  return due;
}

}  // namespace cohort
