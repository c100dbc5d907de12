#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cohort/base/profile.hpp"
#include "cohort/comm/communicator.hpp"
#include "train/report/clock_alignment.hpp"
#include "train/report/rank_summary.hpp"

namespace cohort {

/// What a run leaves behind about itself: a table, summary.json and, where asked for, trace.json in the run's folder.
class RunReport {
 public:
  /// Collective, each.
  RunReport(Communicator& communicator, const TraceOptions& trace);
  /// After Profile::stop. `mine`: what `summary_of` cannot know is filled in. Gives the table for people, on rank 0. Error unavailable (on
  /// rank 0) if a file cannot be written.
  std::string finish(const RankSummary& mine, const std::string& configuration, const std::filesystem::path& directory);

 private:
  Communicator& communicator_;
  bool trace_;
  std::vector<ClockOffset> at_begin_;
};

}  // namespace cohort
