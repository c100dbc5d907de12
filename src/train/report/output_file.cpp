#include "train/report/output_file.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "cohort/base/error.hpp"

namespace cohort {

OutputFile::OutputFile(std::filesystem::path path, const char* mode) : path_(std::move(path)) {
  std::error_code error;
  if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path(), error);
  file_.reset(std::fopen(path_.c_str(), mode));
  const bool taken = errno == EEXIST && std::strchr(mode, 'x') != nullptr;
  if (!file_ && !taken) refuse("cannot create");
}

void OutputFile::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) refuse("cannot write");
}

void OutputFile::flush() {
  if (std::fflush(file_.get()) != 0) refuse("cannot write");
}

void OutputFile::refuse(const char* what) const {
  const std::string why = std::strerror(errno);
  fail(Code::unavailable, path_.string() + ": " + what + ": " + why);
}

double system_wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace cohort
