#pragma once

#include <atomic>
#include <string>

#include "cohort/base/error.hpp"

namespace cohort {

/// Somebody has asked for a stop where there is nothing to keep yet: while data are loaded, before a result is there. No mistake,
/// so it is told apart from other errors. Code cancelled.
class StopRequested : public Error {
 public:
  explicit StopRequested(const std::string& what, std::source_location where = std::source_location::current())
      : Error(Code::cancelled, what, where) {}
};

/// The flag that signals set; null: nobody listens. Signals belong to the process, and so does this. What has a `Context` asks that.
void listen_for_stop(const std::atomic<bool>* flag) noexcept;

/// For what may take minutes before any work begins, such as reading a large file: throws StopRequested "stopped as asked while
/// reading big.csv". Cheap enough for every MiB. Any thread.
void throw_if_stopped(const char* doing, const std::string& what);

}  // namespace cohort
