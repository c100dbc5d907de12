#include "checkpoint/superseded.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/checkpoint_folder.hpp"
#include "cohort/base/error.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

/// Makes the directory `to` where it moves anything.
class Mover {
 public:
  Mover(const fs::path& from, fs::path to, std::int64_t step) : to_(std::move(to)), step_(step) {
    std::error_code none;
    std::vector<fs::path> indices;
    for (const auto& entry : fs::directory_iterator(from, none)) {
      if (const auto step_here = step_of(entry.path())) {
        if (*step_here > step_) indices.push_back(entry.path());
      } else if (const auto part = part_of(entry.path()); part && part->step > step_) {
        parts_.push_back(entry.path());
      }
    }
    std::ranges::sort(indices);
    files_ = indices;
  }
  [[nodiscard]] bool empty() const { return files_.empty() && parts_.empty(); }
  [[nodiscard]] const std::vector<fs::path>& files() const noexcept { return files_; }

  /// The ranks' files first: writers remove those that no checkpoint needs.
  void move() const {
    for (const fs::path& file : parts_) move(file);
    for (const fs::path& file : files_) move(file);
  }
  void move(const fs::path& file) const {
    std::error_code error;
    fs::create_directories(to_, error);
    if (!error) fs::rename(file, to_ / file.filename(), error);
    check(!error, Code::data_loss, fmt::format("{}: cannot move it to {}, out of the way of the run that goes on: {}",
                                                 file.string(), to_.string(), error.message()));
  }

 private:
  fs::path to_;
  std::int64_t step_;
  std::vector<fs::path> files_, parts_;
};

fs::path unused(const fs::path& checkpoints) {
  for (int i = 1;; ++i) {
    fs::path folder = checkpoints / fmt::format("superseded-{}", i);
    if (!fs::exists(folder)) return folder;
  }
}

}  // namespace

std::string set_later_aside(const fs::path& checkpoints, std::int64_t step) {
  const fs::path aside = unused(checkpoints);
  const Mover mover(checkpoints, aside, step);
  if (mover.empty()) return {};
  const std::optional<fs::path> best = checkpoint_of(checkpoints, kBest);
  const bool best_is_later = best && step_of(*best).value_or(-1) > step;
  if (fs::exists(checkpoints / file_name(step))) CheckpointFolder(checkpoints).point_to(file_name(step), false);
  std::string text;
  for (const fs::path& file : mover.files()) text += (text.empty() ? "" : ", ") + file.filename().string();
  if (best_is_later) text += fmt::format("{}best ({})", text.empty() ? "" : ", ", best->filename().string());
  mover.move();
  if (best_is_later) mover.move(checkpoints / kBest);
  std::error_code none;
  for (const auto& rank : fs::directory_iterator(checkpoints / "residuals", none)) {
    const Mover residuals(rank.path(), aside / "residuals" / rank.path().filename(), step);
    const std::optional<fs::path> best_here = checkpoint_of(rank.path(), kBest);
    residuals.move();
    if (best_here && step_of(*best_here).value_or(-1) > step) residuals.move(rank.path() / kBest);
  }
  return fmt::format("of later steps, so moved to {}: {}", aside.string(), text.empty() ? "files of ranks" : text);
}

}  // namespace cohort
