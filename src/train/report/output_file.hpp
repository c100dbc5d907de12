#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace cohort {

/// A file that is written from front to back; every failure is an Error `unavailable` with its name and the system's reason.
class OutputFile {
 public:
  /// `mode` as of fopen. Creates the folders on the way.
  OutputFile(std::filesystem::path path, const char* mode);

  void write(std::string_view bytes);
  void flush();
  [[nodiscard]] bool open() const noexcept {
    return file_ != nullptr;
  }   ///< false only where mode has "x" and the file exists

 private:
  [[noreturn]] void refuse(const char* what) const;

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, std::fclose};
};

/// Seconds since 1970.
[[nodiscard]] double system_wall_time();

}  // namespace cohort
