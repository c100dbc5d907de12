#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cohort/base/log.hpp"

namespace cohort {

inline constexpr std::string_view kLatest = "latest", kBest = "best";

/// The file that `latest` or `best` in a directory of checkpoints means: it is a link, a text file with the file's name where
/// the file system has no links, or the checkpoint itself where somebody copied what the link points to. Nothing if it is
/// not there, or if the file that it names is not.
[[nodiscard]] std::optional<std::filesystem::path> checkpoint_of(const std::filesystem::path& folder, std::string_view name);

/// The checkpoint to go on from: the one that `latest` means; where that says nothing (it was lost in a copy, or names a file
/// that is gone) the one of the largest step that is intact by its checksums, which takes a reading of it, and `log` is
/// told. Nothing if there is none, or no such directory. Whether the file that `latest` means is intact shows when it is loaded.
[[nodiscard]] std::optional<std::filesystem::path> find_latest(const std::filesystem::path& folder, const Log& log = Log());

/// The files of a directory of checkpoints; without what is in them. One rank calls it.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path path) : path_(std::move(path)) {}
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Makes the directory and removes what interrupted writers left there. Error invalid_argument.
  void prepare() const;
  /// A beginning for the names of the ranks' files that no file there has.
  [[nodiscard]] std::string unused_parts(std::int64_t step) const;
  /// Makes `latest`, and `best`, mean a finished file: by a link, or by its name in a text file where there are no links.
  void point_to(const std::string& file, bool best) const;
  /// The newest `keep`, `best` and `latest` stay, with the ranks' files that they need; of this step's those of `parts`.
  void remove_old(std::int64_t step, int keep, const std::string& parts) const;
  void remove_parts(const std::string& parts) const;

 private:
  template <class Condition>
  void remove_part_files(Condition condition) const;

  std::filesystem::path path_;
};

}  // namespace cohort
