#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/disk_progress.hpp"

namespace cohort {

/// A new file, written by the system's own calls: no library stands between an error and whoever has to hear of it. The first
/// error stays: nothing is written after it, and `require_intact` and `close` throw it. One thread.
class DiskFile {
 public:
  /// What was there goes; a link is not followed. `progress`, if there is one, is told of every MiB and every flush, and must outlive this. Error data_loss.
  explicit DiskFile(std::filesystem::path path, DiskProgress* progress = nullptr);
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;
  ~DiskFile() { abandon(); }

  void write_at(std::uint64_t offset, const void* data, std::size_t bytes) noexcept;
  /// Zeros behind the end. False if it cannot be read.
  [[nodiscard]] bool read_at(std::uint64_t offset, void* data, std::size_t bytes) noexcept;
  void set_size(std::uint64_t bytes) noexcept;
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Error data_loss: "step-1.h5: cannot write: No space left on device".
  void require_intact() const;
  /// All of it is on the disk, and the system holds no copy in memory that a reader would be given instead. Error data_loss.
  void close();
  /// Nothing more is written, and nobody asks what became of it.
  void abandon() noexcept;

 private:
  void write_piece(std::uint64_t offset, const char* data, std::size_t bytes) noexcept;
  void tell(std::uint64_t bytes) const noexcept;
  void keep_error(const char* what) noexcept;

  std::filesystem::path path_;
  DiskProgress* progress_;
  int descriptor_;
  std::uint64_t size_ = 0, since_flush_ = 0;
  std::string error_;
};

/// The names of files that are not complete yet begin with it.
inline constexpr std::string_view kUnfinished = ".writing-";

/// A file that has another name beside its own until it is complete, and is removed unless it was finished.
class UnfinishedFile {
 public:
  explicit UnfinishedFile(std::filesystem::path name);
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  ~UnfinishedFile();
  /// Where to write it.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// What lies at `path` takes its name, in one step for whoever looks, and that is on the disk. Error data_loss.
  void finish();

 private:
  std::filesystem::path name_, path_;
};

/// Until this returns, new names in a directory may be in memory only. Error data_loss.
void flush_directory(const std::filesystem::path& directory);

/// A small file is there as a whole, on the disk, or as it was before. Error data_loss.
void replace_file(const std::filesystem::path& file, std::string_view bytes);

}  // namespace cohort
