#pragma once

#include <filesystem>
#include <string>

#include "cohort/comm/communicator.hpp"

namespace cohort {

/// Collective. Where a run writes. Fresh: the first of NAME, NAME-2, NAME-3, … that does not exist (made by rank 0).
/// `resume` "auto": the last of them that holds a checkpoint; a path: the run's directory around it.
struct RunDirectory {
  std::filesystem::path path;
  std::filesystem::path resume_from;      ///< the checkpoint to load; empty: a fresh run
  [[nodiscard]] std::filesystem::path checkpoints() const { return path / "checkpoints"; }
};
[[nodiscard]] RunDirectory choose_directory(Communicator& communicator, const std::string& name, const std::string& resume);

/// Collective. The same for a run that must exist; makes nothing. `which` empty: "auto". Error not_found.
[[nodiscard]] RunDirectory find_directory(Communicator& communicator, const std::string& name, const std::string& which);

}  // namespace cohort
