#include "checkpoint/checkpoint_folder.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "base/disk_file.hpp"
#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/checkpoint_reader.hpp"
#include "cohort/base/error.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "hdf5/file.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

/// Makes `name` mean `target`, in one step for whoever looks.
void point(const fs::path& directory, std::string_view name, const std::string& target) {
  UnfinishedFile fresh(directory / name);
  ::unlink(fresh.path().c_str());
  if (::symlink(target.c_str(), fresh.path().c_str()) == 0) return fresh.finish();
  replace_file(directory / name, target + "\n");     // FAT, SMB and many stores of objects have no links
}

constexpr std::uintmax_t kLongestName = 255;   // a larger file is a checkpoint

std::string first_line(const fs::path& file) {
  std::string line;
  std::getline(std::ifstream(file, std::ios::binary), line);
  return line.substr(0, line.find_last_not_of("\r \t") + 1);
}

bool points_at(const fs::path& folder, std::string_view name, const fs::path& file) {
  const auto target = checkpoint_of(folder, name);
  return target && target->filename() == file.filename();
}

/// The beginning of the names of the files that an index needs; empty if it needs none, nothing if it cannot be read.
std::optional<std::string> parts_of_index(const fs::path& index) {
  try {
    const auto file = hdf5::File::open(index);
    return file.has_attribute("/", "parts") ? file.attribute<std::string>("/", "parts") : "";
  } catch (const Error&) {   // whoever loads it is told
    return {};
  }
}

}  // namespace

std::optional<fs::path> checkpoint_of(const fs::path& folder, std::string_view name) {
  std::error_code none;
  const fs::path at = folder / name;
  if (!fs::is_regular_file(at, none)) return {};                        // a link to what is not there as well
  if (fs::is_symlink(at, none)) return folder / fs::read_symlink(at, none);
  if (fs::file_size(at, none) > kLongestName) return at;
  const std::string target = first_line(at);
  if (!step_of(target) || target.find('/') != std::string::npos || !fs::is_regular_file(folder / target, none)) return {};
  return folder / target;
}

std::optional<fs::path> find_latest(const fs::path& folder, const Log& log) {
  if (auto named = checkpoint_of(folder, kLatest)) return named;
  const auto files = list_checkpoints(folder);
  const auto intact = std::ranges::find_if(files, is_intact_checkpoint);
  if (intact == files.end()) return {};
  log.warning((folder / kLatest).string() + " is missing or names a file that is gone: the newest intact checkpoint is " + intact->string());
  return *intact;
}

void CheckpointFolder::prepare() const {
  std::error_code error;
  fs::create_directories(path_, error);
  if (!fs::is_directory(path_)) {
    fail(Code::invalid_argument, path_.string() + ": cannot make this directory for checkpoints: " + error.message());
  }
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename().string().starts_with(kUnfinished)) fs::remove(entry.path(), error);
  }
  std::map<std::int64_t, std::optional<std::string>> known;
  for (const auto& index : list_checkpoints(path_)) known.emplace(*step_of(index), parts_of_index(index));
  remove_part_files([&](const PartName& part) {
    const auto index = known.find(part.step);
    return index == known.end() || (index->second && *index->second != part.parts);
  });
}

std::string CheckpointFolder::unused_parts(std::int64_t step) const {
  std::set<std::string> used;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (const auto part = part_of(entry.path())) used.insert(part->parts);
  }
  int attempt = 1;
  while (used.contains(parts_name(step, attempt))) ++attempt;
  return parts_name(step, attempt);
}

void CheckpointFolder::point_to(const std::string& file, bool best) const {
  point(path_, kLatest, file);
  if (best) point(path_, kBest, file);
}

void CheckpointFolder::remove_old(std::int64_t step, int keep, const std::string& parts) const {
  const auto files = list_checkpoints(path_);
  // Files of later steps are left-overs of a run that went on from an earlier checkpoint: they go first, the farthest
  // at the head.
  std::vector<fs::path> oldest_first;
  for (const auto& file : files) {
    if (*step_of(file) > step) oldest_first.push_back(file);
  }
  for (auto file = files.rbegin(); file != files.rend(); ++file) {
    if (*step_of(*file) <= step) oldest_first.push_back(*file);
  }
  std::set<std::int64_t> steps;
  for (const auto& file : files) steps.insert(*step_of(file));
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < oldest_first.size(); ++i) {
    if (points_at(path_, kBest, oldest_first[i]) || points_at(path_, kLatest, oldest_first[i])) continue;
    std::error_code ignored;   // somebody else may have removed it
    fs::remove(oldest_first[i], ignored);
    steps.erase(*step_of(oldest_first[i]));
  }
  // After the index that needs them, so that no index is ever without its files.
  remove_part_files([&](const PartName& part) { return !steps.contains(part.step) || (part.step == step && part.parts != parts); });
}

void CheckpointFolder::remove_parts(const std::string& parts) const {
  remove_part_files([&](const PartName& part) { return part.parts == parts; });
}

template <class Condition>
void CheckpointFolder::remove_part_files(Condition condition) const {
  std::error_code ignored;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path_, ignored)) {
    const auto part = part_of(entry.path());
    if (part && condition(*part)) files.push_back(entry.path());
  }
  for (const auto& file : files) fs::remove(file, ignored);
}

}  // namespace cohort
