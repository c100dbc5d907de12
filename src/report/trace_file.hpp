#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cohort/base/profile.hpp"
#include "cohort/comm/communicator.hpp"
#include "report/clock_alignment.hpp"

namespace cohort {

/// Collective. Writes what all ranks have recorded into one file, on rank 0, in the JSON form of Chrome's trace events, which
/// ui.perfetto.dev loads ("Trace Event Format", Google): a process per rank, a track per thread with a number and a name of its
/// own in the whole file, all times in µs since the start of the run on rank 0's clock. `otherData.ranks` holds the measured
/// offsets of the clocks, their uncertainty, and how many steps are in the trace. Error unavailable (on rank 0) if the file
/// cannot be written.
void write_trace(Communicator& communicator, const Profile& profile, const std::vector<ClockOffset>& at_begin,
                 const std::vector<ClockOffset>& at_end, const std::filesystem::path& file);

}  // namespace cohort
