#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "cohort/base/clock.hpp"
#include "cohort/train/checkpoint.hpp"
#include "hdf5/file.hpp"
#include "train/checkpoint_file.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_with_errno(const fs::path& path, std::string_view what) {
  fail(Code::data_loss, path.string() + ": " + std::string(what) + ": " + std::strerror(errno));
}

/// Until this returns, a file's contents or a directory's entries may be in memory only.
void flush_to_disk(const fs::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno(path, "cannot open to flush it to the disk");
  const bool done = ::fsync(descriptor) == 0;
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  // Some network file systems cannot flush a directory, and say so.
  if (!done && !(flags == O_DIRECTORY && reason == EINVAL)) fail_with_errno(path, "cannot flush it to the disk");
}

void move(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_with_errno(to, "cannot rename " + from.filename().string() + " to it");
}

/// Makes `name` a link to `target`, in one step for whoever looks.
void point(const fs::path& directory, const std::string& name, const std::string& target) {
  const fs::path fresh = directory / (std::string(kUnfinished) + name);
  ::unlink(fresh.c_str());
  if (::symlink(target.c_str(), fresh.c_str()) != 0) fail_with_errno(fresh, "cannot make the link");
  move(fresh, directory / name);
}

bool points_at(const fs::path& link, const fs::path& file) {
  std::error_code none;
  return fs::read_symlink(link, none).filename() == file.filename();
}

/// A file that is removed again unless it was finished.
class UnfinishedFile {
 public:
  explicit UnfinishedFile(fs::path path) : path_(std::move(path)) {}
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  ~UnfinishedFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  [[nodiscard]] const fs::path& path() const noexcept { return path_; }
  void finish(const fs::path& name) { move(std::exchange(path_, {}), name); }

 private:
  fs::path path_;
};

void store(hdf5::File& file, const std::string& name, const StateItem& item) {
  if (const auto* tensor = std::get_if<Tensor>(&item)) file.write(name, *tensor);
  else if (const auto* whole = std::get_if<std::int64_t>(&item)) file.write(name, DType::int64, {}, whole);
  else if (const auto* real = std::get_if<double>(&item)) file.write(name, DType::float64, {}, real);
  else file.write_text(name, std::get<std::string>(item));
  file.set_attribute(name, "kind", std::string(kind_of(item)));
  file.set_attribute(name, "crc32c", crc_of(item));
}

}  // namespace

/// The copy of a state, and the memory of the copy before it.
struct CheckpointWriter::Snapshot final : StateVisitor {
  struct Entry {
    std::string name;
    StateItem item;
  };
  std::vector<Entry> entries;

  void take(std::span<Stateful* const> parts) {
    next_ = 0;
    names_.clear();
    for (Stateful* part : parts) part->visit(*this);
    entries.resize(next_);
  }

  void tensor(const std::string& name, const Tensor& value) override {
    check(!value.empty() && value.layout() == Layout::plain, Code::internal,
          "checkpoint: '" + name + "' is no plain tensor");
    Entry& entry = place(name);
    auto* held = std::get_if<Tensor>(&entry.item);
    if (held == nullptr || held->empty() || held->shape() != value.shape() || held->dtype() != value.dtype()) {
      held = &entry.item.emplace<Tensor>(host(), value.dtype(), value.shape());
    }
    held->copy_from(value);
  }
  void piece(const std::string& name, const Shape&, std::int64_t, const Tensor&) override {
    fail(Code::internal, "checkpoint: '" + name + "' is a piece, one file holds whole tensors");
  }
  void value(const std::string& name, std::int64_t& value) override { place(name).item = value; }
  void value(const std::string& name, double& value) override { place(name).item = value; }
  void text(const std::string& name, std::string& value) override {
    check(value.find('\0') == std::string::npos, Code::internal, "checkpoint: text '" + name + "' holds a zero byte");
    place(name).item = value;
  }

 private:
  Entry& place(const std::string& name) {
    check(!name.empty() && "/" + name != kConfiguration, Code::internal,
          "checkpoint: state may not be named '" + name + "'");
    check(names_.insert(name).second, Code::internal, "checkpoint: '" + name + "' is there twice");
    if (next_ == entries.size()) entries.emplace_back();
    Entry& entry = entries[next_++];
    entry.name = name;
    return entry;
  }

  std::size_t next_ = 0;
  std::set<std::string> names_;
};

CheckpointWriter::CheckpointWriter(fs::path directory, int keep, std::string configuration, Log log)
    : directory_(std::move(directory)), keep_(keep), configuration_(std::move(configuration)), log_(std::move(log)),
      snapshot_(std::make_unique<Snapshot>()) {
  check(keep_ >= 1, Code::invalid_argument, fmt::format("checkpoints to keep: {}, allowed: at least 1", keep_));
  std::error_code error;
  fs::create_directories(directory_, error);
  if (!fs::is_directory(directory_)) {
    fail(Code::invalid_argument, directory_.string() + ": cannot make this directory for checkpoints: " + error.message());
  }
  for (const auto& entry : fs::directory_iterator(directory_)) {
    if (entry.path().filename().string().starts_with(kUnfinished)) fs::remove(entry.path(), error);
  }
}

CheckpointWriter::~CheckpointWriter() {
  try {
    close();
  } catch (const std::exception& error) {
    log_.error(error.what());
  }
}

void CheckpointWriter::close() {
  if (writing_.valid()) writing_.get();
}

void CheckpointWriter::save(std::span<Stateful* const> parts, std::int64_t step, bool best) {
  check(step >= 0, Code::internal, fmt::format("checkpoint of step {}", step));
  close();
  snapshot_->take(parts);
  writing_ = std::async(std::launch::async, [this, step, best] { write(step, best); });
}

void CheckpointWriter::write(std::int64_t step, bool best) const {
  const double start = Clock::steady().now();
  const std::string name = file_name(step);
  UnfinishedFile unfinished(directory_ / (std::string(kUnfinished) + name));
  hdf5::File file = hdf5::File::create(unfinished.path());
  file.set_attribute("/", "format", std::string(kCheckpointFormat));
  file.set_attribute("/", "version", kCheckpointVersion);
  file.set_attribute("/", "step", step);
  store(file, std::string(kConfiguration), configuration_);
  for (const auto& entry : snapshot_->entries) store(file, "/" + entry.name, entry.item);
  file.close();
  flush_to_disk(unfinished.path(), O_RDWR);
  unfinished.finish(directory_ / name);
  flush_to_disk(directory_, O_DIRECTORY);   // a link must not reach the disk before its file
  point(directory_, "latest", name);
  if (best) point(directory_, "best", name);
  flush_to_disk(directory_, O_DIRECTORY);
  remove_old(step);
  log_.debug(fmt::format("checkpoint {} written in {:.3f} s", (directory_ / name).string(), Clock::steady().now() - start));
}

void CheckpointWriter::remove_old(std::int64_t step) const {
  const auto files = list_checkpoints(directory_);
  // Files of later steps are left-overs of a run that went on from an earlier checkpoint: they go first, the farthest
  // at the head.
  std::vector<fs::path> oldest_first;
  for (const auto& file : files) {
    if (*step_of(file) > step) oldest_first.push_back(file);
  }
  for (auto file = files.rbegin(); file != files.rend(); ++file) {
    if (*step_of(*file) <= step) oldest_first.push_back(*file);
  }
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < oldest_first.size(); ++i) {
    if (points_at(directory_ / "best", oldest_first[i]) || points_at(directory_ / "latest", oldest_first[i])) continue;
    std::error_code ignored;   // somebody else may have removed it
    fs::remove(oldest_first[i], ignored);
  }
}

}  // namespace cohort
