#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace cohort {

/// A file that is written from front to back; every failure is an Error data_loss with its name and the system's reason. After
/// one nothing more is written.
class OutputFile {
 public:
  enum class Mode {
    replace,   ///< what was there is lost
    append,
    fresh,     ///< not `open` where something of that name is there
  };
  /// Creates the folders on the way.
  OutputFile(std::filesystem::path path, Mode mode);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();                                     ///< hands on what is left, and says nothing of errors: call `close`
  [[nodiscard]] bool open() const noexcept { return descriptor_ >= 0; }

  void write(std::string_view bytes);
  /// Everything so far is with the system, where other programs see it.
  void flush();
  /// Everything is on the disk. Nothing may be called after it.
  void close();

 private:
  [[noreturn]] void refuse(const char* what);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string buffer_;
};

/// Seconds since 1970.
[[nodiscard]] double system_wall_time();

}  // namespace cohort
