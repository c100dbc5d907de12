// Preloaded: COHORT_DISK_FAULTS="folder=/tmp/x call=3 error=28 only=symlink and_later=1 write_microseconds=1000"
#include "support/disk_faults.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sstream>

namespace cohort::testing {
namespace {

std::mutex mutex;
std::atomic<bool> active{false};
DiskFaults faults;             // guarded, like
DiskCalls seen;

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

/// The name of an open file.
std::string name_of(int descriptor) {
  std::array<char, PATH_MAX> text{};
  const ssize_t n = readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), text.data(), text.size() - 1);
  return n > 0 ? std::string(text.data()) : "";
}

enum class Fate { right, wrong, half, lost };

/// What becomes of this call.
Fate fate_of(const char* call, const std::string& path) {
  long sleep = 0;
  Fate fate = Fate::right;
  {
    const std::lock_guard lock(mutex);
    if (!path.starts_with(faults.folder)) return fate;
    const bool data = std::strstr(call, "write") != nullptr || std::strstr(call, "sync") != nullptr;
    if (data) sleep = faults.write_microseconds;
    if (faults.only.empty() || faults.only == call) {
      const long number = ++seen.calls;
      if (faults.call > 0 && (number == faults.call || (faults.and_later && number > faults.call))) {
        fate = faults.error == kHalf ? Fate::half : faults.error == kLost ? Fate::lost : Fate::wrong;
        if (seen.failed.empty()) seen.failed = std::string(call) + " " + path;
        errno = faults.error;
      }
    }
  }
  if (sleep > 0) {
    const int error = errno;
    usleep(static_cast<useconds_t>(sleep));
    errno = error;
  }
  return fate;
}

bool fails(const char* call, const std::string& path) { return active.load() && fate_of(call, path) == Fate::wrong; }
bool fails(const char* call, int descriptor) { return active.load() && fails(call, name_of(descriptor)); }

/// A write, by `really(bytes)`.
template <class Really>
ssize_t written(const char* call, int descriptor, std::size_t bytes, Really really) {
  const Fate fate = active.load() ? fate_of(call, name_of(descriptor)) : Fate::right;
  if (fate == Fate::wrong) return -1;
  if (fate == Fate::lost) return static_cast<ssize_t>(bytes);
  return really(fate == Fate::half ? (bytes + 1) / 2 : bytes);
}

/// Settings for a program that is preloaded with this.
[[maybe_unused]] const bool from_environment = [] {
  const char* const text = std::getenv("COHORT_DISK_FAULTS");
  if (text == nullptr) return false;
  DiskFaults wanted;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t at = word.find('=');
    const std::string key = word.substr(0, at), value = word.substr(at + 1);
    if (key == "folder") wanted.folder = value;
    else if (key == "call") wanted.call = std::stol(value);
    else if (key == "error") wanted.error = std::stoi(value);
    else if (key == "only") wanted.only = value;
    else if (key == "and_later") wanted.and_later = value == "1";
    else if (key == "write_microseconds") wanted.write_microseconds = std::stol(value);
    else std::fprintf(stderr, "COHORT_DISK_FAULTS: what is %s?\n", key.c_str()), std::abort();
  }
  set_disk_faults(wanted);
  return true;
}();

}  // namespace

void set_disk_faults(const DiskFaults& wanted) {
  const std::lock_guard lock(mutex);
  faults = wanted;
  seen = {};
  active.store(true);
}

DiskCalls end_disk_faults() {
  const std::lock_guard lock(mutex);
  active.store(false);
  return seen;
}

}  // namespace cohort::testing

using cohort::testing::fails;
using cohort::testing::real;
using cohort::testing::written;

// The C library's headers say noexcept of some of these, and name their parameters __x.
extern "C" {

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return fails("open", std::string(path)) ? -1 : real<int(const char*, int, ...)>("open")(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return fails("open", std::string(path)) ? -1 : real<int(const char*, int, ...)>("open64")(path, flags, mode);
}
ssize_t write(int descriptor, const void* data, size_t bytes) {
  return written("write", descriptor, bytes, [&](size_t n) { return real<ssize_t(int, const void*, size_t)>("write")(descriptor, data, n); });
}
ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t at) {
  return written("pwrite", descriptor, bytes, [&](size_t n) { return real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(descriptor, data, n, at); });
}
ssize_t pwrite64(int descriptor, const void* data, size_t bytes, off64_t at) {
  return written("pwrite", descriptor, bytes, [&](size_t n) { return real<ssize_t(int, const void*, size_t, off64_t)>("pwrite64")(descriptor, data, n, at); });
}
int fsync(int descriptor) { return fails("fsync", descriptor) ? -1 : real<int(int)>("fsync")(descriptor); }
int fdatasync(int descriptor) { return fails("fdatasync", descriptor) ? -1 : real<int(int)>("fdatasync")(descriptor); }
int ftruncate(int descriptor, off_t bytes) noexcept { return fails("ftruncate", descriptor) ? -1 : real<int(int, off_t)>("ftruncate")(descriptor, bytes); }
int ftruncate64(int descriptor, off64_t bytes) noexcept {
  return fails("ftruncate", descriptor) ? -1 : real<int(int, off64_t)>("ftruncate64")(descriptor, bytes);
}
int close(int descriptor) {   // it is closed, whatever it says
  const bool wrong = fails("close", descriptor);
  const int error = errno, result = real<int(int)>("close")(descriptor);
  if (wrong) errno = error;
  return wrong ? -1 : result;
}
int rename(const char* from, const char* to) noexcept {
  return fails("rename", std::string(to)) ? -1 : real<int(const char*, const char*)>("rename")(from, to);
}
int symlink(const char* target, const char* path) noexcept {
  return fails("symlink", std::string(path)) ? -1 : real<int(const char*, const char*)>("symlink")(target, path);
}
int unlink(const char* path) noexcept { return fails("unlink", std::string(path)) ? -1 : real<int(const char*)>("unlink")(path); }
int remove(const char* path) noexcept { return fails("remove", std::string(path)) ? -1 : real<int(const char*)>("remove")(path); }

}  // extern "C"
