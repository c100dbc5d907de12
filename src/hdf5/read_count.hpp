#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace cohort::hdf5 {

/// Counts what the calling thread reads while the object lives: how often it opens which file to read, and the bytes of
/// elements that it reads, as they are stored. One at a time in a thread; for tests that nothing is read in vain.
class ReadCount {
 public:
  ReadCount();
  ReadCount(const ReadCount&) = delete;
  ReadCount& operator=(const ReadCount&) = delete;
  ~ReadCount();

  [[nodiscard]] const std::map<std::string, int>& opened() const noexcept { return opened_; }     ///< by path
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

  /// By whoever opens and reads, in any thread.
  static void add_open(const std::string& path);
  static void add_bytes(std::uint64_t bytes) noexcept;

 private:
  std::map<std::string, int> opened_;
  std::uint64_t bytes_ = 0;
};

}  // namespace cohort::hdf5
