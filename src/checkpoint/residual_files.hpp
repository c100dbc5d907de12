#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/params/residual_keeper.hpp"

namespace cohort {

/// The residuals of error feedback in checkpoints. They are each rank's own, so each rank writes a file of the checkpoint's
/// name, in the checkpoint's format, into residuals/rank-NNNN beside it. Without them a resumed run would lose what is late, once.
class ResidualFiles {
 public:
  /// Where this rank writes, one of so many that do. `checkpoints`: the directory of the checkpoints. `communicator`: this rank's, whose log and activity are told.
  ResidualFiles(int rank, int ranks, ResidualKeeper& residuals, const std::filesystem::path& checkpoints, int keep,
                const std::string& configuration, const Communicator& communicator);
  ~ResidualFiles();                                  ///< finishes the write; logs its error
  /// As CheckpointWriter does, all ranks at the same steps.
  void save(std::int64_t step, bool best);
  /// As CheckpointWriter does; nothing where the last save was of another step.
  void mark_best(std::int64_t step);
  void close() { writer_.close(); }
  void keep_all() noexcept { writer_.keep_all(); }

  /// Collective. Takes up the residuals that belong to `checkpoint`. Were there as many ranks as now, with the same
  /// shares, each takes its own; else they are shared out, and the next step goes in float32 and delivers them. What is missing or damaged counts as zero, with a
  /// warning; a checkpoint without any is right as it is. One rank logs what happened.
  static void load(Communicator& communicator, ResidualKeeper& residuals, const std::filesystem::path& checkpoint);

 private:
  class State;
  std::unique_ptr<State> state_;
  CheckpointWriter writer_;
  std::int64_t saved_step_ = -1;
};

}  // namespace cohort
