#include "report/output_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
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

/// The thread that flushes, and what it shares with the one that writes.
class OutputFile::PeriodicFlush {
 public:
  explicit PeriodicFlush(OutputFile& file)
      : thread_([this, &file](const std::stop_token& stop) { file.hand_on_periodically(*this, stop); }) {}

  std::mutex mutex;                    // of the file's buffer and descriptor
  std::exception_ptr error;            // that the thread has met
  std::condition_variable_any asleep;  // made here, since that allocates, and a training step does not

 private:
  std::jthread thread_;                // last: it uses the others
};

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
  periodic_.reset();
  if (open()) ::close(descriptor_);
}

/// Empty where no other thread uses the file. Throws what that thread has met.
std::unique_lock<std::mutex> OutputFile::lock() {
  if (!periodic_) return {};
  std::unique_lock held(periodic_->mutex);
  if (periodic_->error) std::rethrow_exception(periodic_->error);
  return held;
}

void OutputFile::write(std::string_view bytes) {
  const auto held = lock();
  buffer_ += bytes;
  if (buffer_.size() >= kBuffer) hand_on();
}

void OutputFile::flush() {
  const auto held = lock();
  hand_on();
}

void OutputFile::hand_on() {
  std::string_view left = buffer_;
  while (!left.empty()) {
    errno = EIO;                        // for a write that takes nothing and does not say why
    const ssize_t written = ::write(descriptor_, left.data(), left.size());
    if (written > 0) left.remove_prefix(static_cast<std::size_t>(written));
    else if (errno != EINTR) refuse("cannot write");
  }
  buffer_.clear();
}

void OutputFile::flush_soon() { periodic_ = std::make_unique<PeriodicFlush>(*this); }

void OutputFile::hand_on_periodically(PeriodicFlush& with, const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kPeriod(500);
  std::mutex mutex;
  std::unique_lock waiting(mutex);
  while (!with.asleep.wait_for(waiting, stop, kPeriod, [&] { return stop.stop_requested(); })) {
    const std::lock_guard held(with.mutex);
    try {
      hand_on();
    } catch (...) {   // the writer's, who is told at its next call
      with.error = std::current_exception();
      return;
    }
  }
}

void OutputFile::close() {
  flush();
  periodic_.reset();
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
