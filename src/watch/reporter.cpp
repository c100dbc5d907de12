#include "watch/reporter.hpp"

#include <algorithm>

namespace cohort {

Report report_of(const RankActivity& activity) {
  return {activity.longest_wait(), activity.position(), activity.disk_wait().get()};
}

void Reporter::send_notices() {
  for (Link& link : links_) link.flush();
  const Notices::Failure failure = notices_.failure();
  if (!failure.reason.empty() && !failure_sent_) {
    failure_sent_ = true;
    for (Link& link : links_) {
      link.send(FrameKind::report, as_body(failure.where));
      link.send(FrameKind::failure, failure.reason);
    }
  }
  if (notices_.leaving() && !goodbye_sent_) {
    goodbye_sent_ = true;
    for (Link& link : links_) link.send(FrameKind::goodbye);
  }
}

void Reporter::send_report() {
  const Report report = report_of(activity_);
  for (Link& link : links_) {
    if (link.flushed()) link.send(FrameKind::report, as_body(report));   // else the coordinator does not listen now
  }
}

void Reporter::report_if_due(double now) {
  if (now < due_) return;
  send_report();
  due_ = now + period_;
}

void Reporter::hasten(double period) noexcept {
  period_ = std::min(period_, period);
  due_ = 0;
}

}  // namespace cohort
