#include "base/disk_file.hpp"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPiece = 1 << 20;          // of a write
constexpr std::uint64_t kBetweenFlushes = 16 << 20;   // bytes: how long the last flush takes must not depend on the file

std::string text_of(const fs::path& path, const std::string& what) { return path.string() + ": " + what + ": " + std::strerror(errno); }

[[noreturn]] void refuse(const fs::path& path, const std::string& what) { fail(Code::data_loss, text_of(path, what)); }

/// Calls again what a signal has interrupted.
template <class Call>
auto repeat(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace

// What a writer that died has left goes first, whatever it is: a link of that name, of either kind, could lead to a file that is
// complete, or somebody else's. The new file is then made here, or not at all.
DiskFile::DiskFile(fs::path path, DiskProgress* progress)
    : path_(std::move(path)), progress_(progress), descriptor_(repeat([&] {
        if (::unlink(path_.c_str()) != 0 && errno != ENOENT) return -1;
        return ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
      })) {
  if (descriptor_ < 0) refuse(path_, "cannot create");
  if (progress_ != nullptr) progress_->begin(path_);
}

void DiskFile::tell(std::uint64_t bytes) const noexcept {
  if (progress_ != nullptr) progress_->moved(bytes);
}

void DiskFile::keep_error(const char* what) noexcept {
  if (error_.empty()) error_ = text_of(path_, what);
}

void DiskFile::write_piece(std::uint64_t offset, const char* data, std::size_t bytes) noexcept {
  while (bytes > 0 && error_.empty()) {
    errno = EIO;                                 // for a write that takes nothing and does not say why
    const ssize_t written = repeat([&] { return ::pwrite(descriptor_, data, bytes, static_cast<off_t>(offset)); });
    if (written <= 0) return keep_error("cannot write");
    data += written;
    offset += static_cast<std::uint64_t>(written);
    bytes -= static_cast<std::size_t>(written);
    since_flush_ += static_cast<std::uint64_t>(written);
    tell(static_cast<std::uint64_t>(written));
  }
}

void DiskFile::write_at(std::uint64_t offset, const void* data, std::size_t bytes) noexcept {
  if (descriptor_ < 0) return;
  const auto* const from = static_cast<const char*>(data);
  for (std::size_t at = 0; at < bytes && error_.empty(); at += kPiece) {
    write_piece(offset + at, from + at, std::min(kPiece, bytes - at));
    if (since_flush_ < kBetweenFlushes) continue;
    if (repeat([&] { return ::fdatasync(descriptor_); }) != 0) keep_error("cannot flush it to the disk");
    since_flush_ = 0;
    tell(0);
  }
  size_ = std::max<std::uint64_t>(size_, offset + bytes);
}

bool DiskFile::read_at(std::uint64_t offset, void* data, std::size_t bytes) noexcept {
  auto* to = static_cast<char*>(data);
  while (bytes > 0 && descriptor_ >= 0) {
    const ssize_t n = repeat([&] { return ::pread(descriptor_, to, bytes, static_cast<off_t>(offset)); });
    if (n < 0) keep_error("cannot read what was written");
    if (n < 0) return false;
    if (n == 0) break;
    to += n;
    offset += static_cast<std::uint64_t>(n);
    bytes -= static_cast<std::size_t>(n);
  }
  std::memset(to, 0, bytes);
  return true;
}

void DiskFile::set_size(std::uint64_t bytes) noexcept {
  if (descriptor_ >= 0 && error_.empty() && repeat([&] { return ::ftruncate(descriptor_, static_cast<off_t>(bytes)); }) != 0) keep_error("cannot set its size");
  size_ = bytes;
}

void DiskFile::require_intact() const {
  if (!error_.empty()) fail(Code::data_loss, error_);
}

void DiskFile::close() {
  require_intact();
  if (repeat([&] { return ::fsync(descriptor_); }) != 0) keep_error("cannot flush it to the disk");
  tell(0);
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  // Interrupted, the descriptor is closed all the same, and after the flush there is nothing left to be lost.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) keep_error("cannot close it");
  require_intact();
}

void DiskFile::abandon() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

UnfinishedFile::UnfinishedFile(fs::path name) : name_(std::move(name)), path_(name_.parent_path() / (std::string(kUnfinished) + name_.filename().string())) {}

UnfinishedFile::~UnfinishedFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

void UnfinishedFile::finish() {
  if (::rename(path_.c_str(), name_.c_str()) != 0) refuse(name_, "cannot rename " + path_.filename().string() + " to it");
  path_.clear();
  flush_directory(name_.parent_path());
}

void flush_directory(const fs::path& directory) {
  const fs::path path = directory.empty() ? "." : directory;
  const int descriptor = repeat([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (descriptor < 0) refuse(path, "cannot open to flush it to the disk");
  const bool done = repeat([&] { return ::fsync(descriptor); }) == 0;
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  // Some network file systems cannot flush a directory, and say so.
  if (!done && reason != EINVAL && reason != ENOTSUP) refuse(path, "cannot flush it to the disk");
}

void replace_file(const fs::path& file, std::string_view bytes) {
  UnfinishedFile unfinished(file);
  DiskFile out(unfinished.path());
  out.write_at(0, bytes.data(), bytes.size());
  out.close();
  unfinished.finish();
}

}  // namespace cohort
