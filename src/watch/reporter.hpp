#pragma once

#include "cohort/watch/waiting.hpp"
#include "watch/meeting.hpp"
#include "watch/notices.hpp"

namespace cohort {

/// What a rank is doing now. Any thread.
[[nodiscard]] Report report_of(const RankActivity& activity);

/// Tells the coordinators what a rank does: heartbeats, its error, its goodbye. One thread; all times are the steady clock's.
class Reporter {
 public:
  /// The other objects must outlive this one. `period`: seconds between two heartbeats.
  Reporter(const RankActivity& activity, const Notices& notices, CoordinatorLinks& links, double period)
      : activity_(activity), notices_(notices), links_(links), period_(period) {}

  /// Sends what the rank has noticed since the last call: its error, and that it has done its part.
  void send_notices();
  void send_report();
  /// A heartbeat, if one is due.
  void report_if_due(double now);
  [[nodiscard]] double due() const noexcept { return due_; }
  /// A coordinator wants heartbeats that often; only ever more often than before.
  void hasten(double period) noexcept;

 private:
  const RankActivity& activity_;
  const Notices& notices_;
  CoordinatorLinks& links_;
  double period_, due_ = 0;
  bool failure_sent_ = false, goodbye_sent_ = false;
};

}  // namespace cohort
