#include "report/run_report.hpp"

#include "base/disk_file.hpp"
#include "report/trace_file.hpp"

namespace cohort {

RunReport::RunReport(Communicator& communicator, const TraceOptions& trace) : communicator_(communicator), trace_(trace.record) {
  Profile& profile = *communicator.context().profile;
  const Clock& clock = *communicator.context().clock;
  if (trace_) at_begin_ = measure_clock_offsets(communicator, clock);
  profile.start(clock, trace);
}

void RunReport::trace(const std::filesystem::path& directory) {
  if (!trace_) return;
  const std::vector<ClockOffset> at_end = measure_clock_offsets(communicator_, *communicator_.context().clock);
  write_trace(communicator_, *communicator_.context().profile, at_begin_, at_end, directory / "trace.json");
}

std::string RunReport::table(const std::vector<RankSummary>& ranks, const std::string& configuration, const std::filesystem::path& directory) {
  replace_file(directory / "summary.json", summary_json(ranks, configuration));
  return summary_table(ranks);
}

}  // namespace cohort
