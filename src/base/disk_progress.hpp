#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>

#include "cohort/base/clock.hpp"

namespace cohort {

/// How far a thread is that writes files one after the other. Any thread may look.
class DiskProgress {
 public:
  void begin(const std::filesystem::path& file) {
    const std::lock_guard lock(mutex_);
    now_.file = file.filename().string();
    bytes_ = 0;
    began_ = Clock::steady().now();
    ++now_.moves;
  }
  /// So many bytes have been taken; with 0 the disk has done something else, as a flush.
  void moved(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_ += bytes;
    ++now_.moves;
  }

  struct Now {
    std::string file;                  ///< without its folder; empty: none yet
    double megabytes_per_second = 0;   ///< since it was begun
    std::int64_t moves = 0;            ///< changes whenever anything gets done
  };
  [[nodiscard]] Now now() const {
    const std::lock_guard lock(mutex_);
    Now now = now_;
    const double seconds = Clock::steady().now() - began_;
    if (seconds > 0) now.megabytes_per_second = static_cast<double>(bytes_) / 1e6 / seconds;
    return now;
  }

 private:
  mutable std::mutex mutex_;
  Now now_;
  std::uint64_t bytes_ = 0;
  double began_ = 0;
};

}  // namespace cohort
