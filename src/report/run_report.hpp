#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cohort/base/profile.hpp"
#include "cohort/comm/communicator.hpp"
#include "report/clock_alignment.hpp"
#include "report/rank_summary.hpp"

namespace cohort {

/// What a run leaves behind about itself: a table, summary.json and, where asked for, trace.json in the run's folder.
class RunReport {
 public:
  /// Collective.
  RunReport(Communicator& communicator, const TraceOptions& trace);
  /// Collective, after Profile::stop: writes trace.json, if that was asked for.
  void trace(const std::filesystem::path& directory);
  /// The table for people, and summary.json. One rank calls it. Error unavailable if the file cannot be written.
  static std::string table(const std::vector<RankSummary>& ranks, const std::string& configuration, const std::filesystem::path& directory);

 private:
  Communicator& communicator_;
  bool trace_;
  std::vector<ClockOffset> at_begin_;
};

}  // namespace cohort
