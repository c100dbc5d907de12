#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>

namespace cohort {

/// A file that is written from front to back; every failure is an Error data_loss with its name and the system's reason. After
/// one nothing more is written. One thread.
class OutputFile {
 public:
  enum class Mode {
    replace,   ///< what was there is lost
    append,
    fresh,     ///< not `open` where something of that name is there
  };
  /// Creates the folders on the way.
  OutputFile(std::filesystem::path path, Mode mode);
  OutputFile(OutputFile&& other) noexcept;           ///< before `flush_soon` only
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();                                     ///< hands on what is left, and says nothing of errors: call `close`
  [[nodiscard]] bool open() const noexcept { return descriptor_ >= 0; }

  void write(std::string_view bytes);
  /// Everything so far is with the system, where other programs see it.
  void flush();
  /// From here on a thread flushes twice a second, so that others see what was written and a kill does not take it along,
  /// however long the writer is silent, and without a system call per line. What fails there is the next call's error.
  void flush_soon();
  /// Everything is on the disk. Nothing may be called after it.
  void close();

 private:
  class PeriodicFlush;
  [[nodiscard]] std::unique_lock<std::mutex> lock();
  void hand_on();
  void hand_on_periodically(PeriodicFlush& with, const std::stop_token& stop);
  [[noreturn]] void refuse(const char* what);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string buffer_;
  std::unique_ptr<PeriodicFlush> periodic_;          // last: its thread uses the others
};

/// Seconds since 1970.
[[nodiscard]] double system_wall_time();

}  // namespace cohort
