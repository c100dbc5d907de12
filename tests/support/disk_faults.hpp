#pragma once

#include <string>

namespace cohort::testing {

inline constexpr int kHalf = 0, kLost = -1;

/// What goes wrong on the disk, in calls of the C library for files below a folder: open, write, pwrite, fsync, fdatasync,
/// ftruncate, close, rename, symlink, unlink and remove. Link support/disk_faults.cpp into the test, whose calls then stand before the
/// library's; or preload it (COHORT_DISK_FAULTS, see there) into any program.
struct DiskFaults {
  std::string folder{};
  long call = 0;               ///< the number, from 1, of the call that fails; 0: none does
  int error = 0;               ///< with which errno; kHalf: a write takes one byte of two, kLost: none, and says that it was right
  bool and_later = false;      ///< all later ones as well
  std::string only{};          ///< only calls of that name count, as "symlink"; empty: all
  long write_microseconds = 0; ///< that each write takes, and each flush
};

/// From here on, in all threads. Replaces what was set before.
void set_disk_faults(const DiskFaults& faults);

/// Ends it.
struct DiskCalls {
  long calls = 0;              ///< that counted
  std::string failed{};         ///< "fsync /tmp/x/step-1.h5"; empty: none did
};
DiskCalls end_disk_faults();

}  // namespace cohort::testing
