#include "train/report/run_report.hpp"

#include "base/disk_file.hpp"
#include "train/report/trace_file.hpp"

namespace cohort {

RunReport::RunReport(Communicator& communicator, const TraceOptions& trace) : communicator_(communicator), trace_(trace.record) {
  Profile& profile = *communicator.context().profile;
  const Clock& clock = *communicator.context().clock;
  if (trace_) at_begin_ = measure_clock_offsets(communicator, clock);
  profile.start(clock, trace);
}

std::string RunReport::finish(const RankSummary& mine, const std::string& configuration, const std::filesystem::path& directory) {
  const std::vector<RankSummary> ranks = communicator_.all_gather_value(mine);
  if (trace_) {
    const std::vector<ClockOffset> at_end = measure_clock_offsets(communicator_, *communicator_.context().clock);
    write_trace(communicator_, *communicator_.context().profile, at_begin_, at_end, directory / "trace.json");
  }
  if (communicator_.rank() != 0) return {};
  replace_file(directory / "summary.json", summary_json(ranks, configuration));
  return summary_table(ranks);
}

}  // namespace cohort
