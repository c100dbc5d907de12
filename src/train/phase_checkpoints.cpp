#include "train/phase_checkpoints.hpp"

#include <filesystem>

namespace cohort {

PhaseCheckpoints::PhaseCheckpoints(Run& run, Communicator& communicator, const Setup& setup, ResidualKeeper& kept,
                                   std::span<Stateful* const> parts)
    : run_(run), parts_(parts), in_parts_(setup.parameters->shard() != nullptr) {
  const std::filesystem::path folder = run_.out.directory.checkpoints();
  if (kept.keeps_residuals()) {
    residuals_ = std::make_unique<ResidualFiles>(communicator.rank(), communicator.size(), kept, folder, setup.checkpoint.keep, setup.config_text,
                                                 communicator);
  }
  if (run_.out.is_root() || in_parts_) {
    writer_ = std::make_unique<CheckpointWriter>(folder, setup.checkpoint.keep, setup.config_text, communicator.context().log,
                                                 in_parts_ ? &communicator : nullptr, communicator.rank_activity());
  }
}

void PhaseCheckpoints::keep_all() {
  close();
  if (residuals_) residuals_->keep_all();
  if (writer_) writer_->keep_all();
}

void PhaseCheckpoints::save(bool best) {
  run_.out.saved = true;
  run_.out.metrics.flush();
  if (residuals_) residuals_->save(run_.state.step, best);
  if (writer_) writer_->save(parts_, run_.state.step, best);
}

void PhaseCheckpoints::mark_best() {
  const PhaseScope saving(run_.profile, Phase::checkpoint);
  if (residuals_) residuals_->mark_best(run_.state.step);
  if (writer_) writer_->mark_best();
}

void PhaseCheckpoints::poll() {
  if (writer_) writer_->poll();
}

void PhaseCheckpoints::close() {
  const PhaseScope saving(run_.profile, Phase::checkpoint);
  if (residuals_) residuals_->close();
  if (writer_) writer_->close();
}

}  // namespace cohort
