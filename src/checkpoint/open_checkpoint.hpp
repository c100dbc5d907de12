#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

class CheckpointReader;
class LoadGroup;

/// A checkpoint that several ranks go on from, or one alone: passed along to all that reads of it, so that each file is opened once
/// by each rank that reads it. Calls with `ranks` are collective over them; null: this rank alone. What is stored whole rank 0
/// reads for all of them; of what lies in the files of ranks, each file is read by one rank, which sends the others what is theirs.
/// Errors are the same on all ranks, and where a checkpoint is damaged or not there they name the newest intact one beside it.
class OpenCheckpoint {
 public:
  /// A file, or a directory of checkpoints or a link there. Nothing is opened until somebody asks for what is in it.
  explicit OpenCheckpoint(std::filesystem::path path);
  OpenCheckpoint(OpenCheckpoint&&) noexcept;
  OpenCheckpoint& operator=(OpenCheckpoint&&) noexcept;
  ~OpenCheckpoint();

  /// As it was given.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Loads it into the parts, all of it on all ranks or nothing on any; see `load_checkpoint`. The parts ask for the same names on all
  /// ranks; which elements of a tensor in pieces they ask for is each rank's own affair.
  CheckpointHeader load(Communicator* ranks, std::span<Stateful* const> parts, Extra extra = Extra::refuse);
  /// The text of that name; empty if there is none.
  [[nodiscard]] std::string text(Communicator* ranks, const std::string& name);
  /// This rank alone.
  [[nodiscard]] CheckpointDescription describe();

 private:
  [[nodiscard]] LoadGroup group(Communicator* ranks);
  [[nodiscard]] const CheckpointReader& reader();
  [[nodiscard]] const std::filesystem::path& file();
  [[nodiscard]] std::string alternative();

  std::filesystem::path path_, file_;                // file_: links resolved, once it is asked for
  std::unique_ptr<CheckpointReader> reader_;         // where this rank has led
};

}  // namespace cohort
