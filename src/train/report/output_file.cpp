#include "train/report/output_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

constexpr std::size_t kBuffer = 64 << 10;

int flags_of(OutputFile::Mode mode) {
  switch (mode) {
    case OutputFile::Mode::append: return O_APPEND;
    case OutputFile::Mode::fresh: return O_EXCL;
    default: return O_TRUNC;
  }
}

}  // namespace

OutputFile::OutputFile(std::filesystem::path path, Mode mode) : path_(std::move(path)) {
  std::error_code error;
  if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path(), error);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags_of(mode), 0666);
  if (descriptor_ < 0 && !(mode == Mode::fresh && errno == EEXIST)) refuse("cannot create");
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), buffer_(std::move(other.buffer_)) {}

OutputFile::~OutputFile() {
  try {
    if (open()) flush();
  } catch (const Error&) {   // a destructor has nobody to tell
  }
  if (open()) ::close(descriptor_);
}

void OutputFile::write(std::string_view bytes) {
  buffer_ += bytes;
  if (buffer_.size() >= kBuffer) flush();
}

void OutputFile::flush() {
  std::string_view left = buffer_;
  while (!left.empty()) {
    errno = EIO;                        // for a write that takes nothing and does not say why
    const ssize_t written = ::write(descriptor_, left.data(), left.size());
    if (written > 0) left.remove_prefix(static_cast<std::size_t>(written));
    else if (errno != EINTR) refuse("cannot write");
  }
  buffer_.clear();
}

void OutputFile::close() {
  flush();
  // What is no file on a disk, as a pipe, cannot be flushed to one, and says so.
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EINTR) refuse("cannot flush it to the disk");
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) refuse("cannot close it");
}

void OutputFile::refuse(const char* what) {
  const std::string why = std::strerror(errno);
  buffer_.clear();
  fail(Code::data_loss, path_.string() + ": " + what + ": " + why);
}

double system_wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace cohort
