#pragma once

#include <string>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "report/rank_summary.hpp"

namespace cohort {

/// How the ranks of a run end it together although some may be lost meanwhile. In a collective, whoever waits for a lost rank waits
/// until the deadline, and so do those that wait for it in turn, whom the watchdog would take for hung. So here everybody talks to rank
/// 0 alone, which is never lost while the job goes on, and rank 0 waits for each of the others only until it is lost.
class Farewell {
 public:
  /// Collective, while no rank has been lost.
  explicit Farewell(Communicator& world) : line_(world.duplicate()) {}

  /// Collective over those that are there. On rank 0: what each of them gave, in rank order; elsewhere empty.
  [[nodiscard]] std::vector<RankSummary> gather(const RankSummary& mine);
  /// Collective over those that are there. A text of rank 0 to all of them.
  void tell(std::string& text);

 private:
  void send_to(int peer, const std::string& text);

  Communicator line_;
};

}  // namespace cohort
