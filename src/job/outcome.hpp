#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cohort/job/job.hpp"
#include "cohort/watch/membership.hpp"

namespace cohort {

/// How a job ended, as rank 0 leaves it in a file: a launcher's exit code does not tell once ranks have been lost.
struct Outcome {
  bool completed = false;                  ///< all was done, or somebody stopped the job
  std::string stopped;                     ///< "SIGTERM": what stopped it before all was done; empty: nothing
  int exit_code = kExitError;
  std::string error;                       ///< why it is not completed
  std::vector<Membership::Loss> lost;
  JobOutcome facts;
};

/// The file that COHORT_OUTCOME names; empty: none is wanted.
[[nodiscard]] std::filesystem::path outcome_file();

/// JSON, complete or not at all. A file that cannot be written is a line on standard error: the job has ended anyway.
void write_outcome(const std::filesystem::path& file, const Outcome& outcome);

/// What `write_outcome` wrote, without the facts; nothing if there is no such file.
[[nodiscard]] std::optional<Outcome> read_outcome(const std::filesystem::path& file);

/// "outcome: completed; lost: rank 3 on node7 ended before the job was done: …; updates 1200; checkpoint runs/a/latest"
[[nodiscard]] std::string outcome_text(const Outcome& outcome);

}  // namespace cohort
