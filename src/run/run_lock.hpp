#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include "cohort/base/log.hpp"

namespace cohort {

/// One job at a time writes in a run's directory: its file `lock` says which, on which host, since when, and is touched
/// every two seconds by a thread, so that it tells a job at work from one that was killed, whatever that job is doing.
///
/// A lock is taken over, and `log` told, where its process is dead (on this host) or has given no sign of life for 30 s (on
/// another). All times are the file system's, so the hosts' clocks need not agree. A job that was only silent notices
/// (`check`).
class RunLock {
 public:
  /// Takes it; `job` as of Context. Error failed_precondition, naming the job that has it; that of one on another host shows within seconds
  /// whether it lives, and this waits for that. Error unavailable if no file can be made there.
  RunLock(const std::filesystem::path& directory, const std::string& job, const Log& log);
  ~RunLock();                                        ///< leaves it to others
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// The directory has been renamed.
  void moved_to(const std::filesystem::path& directory);
  /// Error failed_precondition if somebody else has taken it over. Cheap.
  void check() const;

 private:
  void renew();
  void keep_alive(const std::stop_token& stop);

  mutable std::mutex mutex_;                         // of the path
  std::filesystem::path file_;
  std::string token_;                                // of this lock alone
  std::array<std::int64_t, 4> mine_{};               // the file as this lock has left it
  std::atomic<bool> lost_ = false;
  std::condition_variable_any asleep_;               // made here, since that allocates
  std::jthread thread_;                              // last: it uses the others
};

/// Who is at work in a run's directory, for people; empty: nobody. As RunLock, it may wait for a sign of life.
[[nodiscard]] std::string job_at_work(const std::filesystem::path& directory);

}  // namespace cohort
