#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cohort/comm/communicator.hpp"
#include "run/run_lock.hpp"

namespace cohort {

/// Where a run writes: metrics, checkpoints, and `run.toml`, which says under which name it was started and when.
struct RunDirectory {
  std::filesystem::path path;
  std::filesystem::path resume_from{};    ///< the checkpoint to load; empty: there is none
  bool fresh = false;                     ///< made for this run
  bool has_best = false;                  ///< `best` there means a checkpoint that stays when the run goes on
  std::shared_ptr<RunLock> lock{};        ///< on rank 0 of a job that writes there

  [[nodiscard]] std::filesystem::path checkpoints() const { return path / "checkpoints"; }
};

/// `train.directory` as a run is asked for it.
struct RunName {
  std::string name;
  bool given = true;                      ///< false: nobody has said so, it is what holds otherwise
};

/// Collective. Where a run writes, which nobody else does meanwhile. `resume`:
/// - empty: a fresh run in the first of NAME, NAME-2, NAME-3, … that does not exist or is empty;
/// - "auto": the last run of this name, if it has a checkpoint, else the one before; none has one: a fresh run. Runs are
///   beside each other and known by their run.toml, those without by NAME-2, NAME-3, …, whichever numbers are missing. Error
///   failed_precondition if a later one is at work; data_loss if one has files of checkpoints and none is intact;
/// - a checkpoint or a directory with some: the run goes on in its directory, if it is one of this name or none is given;
///   else this is a fresh run of this name that begins with that state.
[[nodiscard]] RunDirectory choose_directory(Communicator& communicator, const RunName& name, const std::string& resume);

/// Collective. The checkpoint of a run to read: the last of this name, or `which`; writes nothing. Error not_found.
[[nodiscard]] RunDirectory find_directory(Communicator& communicator, const std::string& name, const std::string& which);

}  // namespace cohort
