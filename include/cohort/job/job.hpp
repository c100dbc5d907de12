#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/base/registry.hpp"
#include "cohort/comm/communicator.hpp"

namespace cohort {

/// What a job has to tell about its end, for the outcome: "steps", "1200"; "checkpoint", "runs/a/checkpoints/latest".
struct JobOutcome {
  bool stopped = false;                                     ///< ended before all was done, because somebody had asked
  std::vector<std::pair<std::string, std::string>> facts;   ///< in the order in which they are printed
};

/// What the command line gave a job.
struct JobArguments {
  Section& config;        ///< the root of the job file with every --set; the job binds what it knows, then calls finish()
  std::string argument;   ///< what follows the job's name: the job file, a checkpoint, a kind; may be empty
  std::string resume;     ///< --resume: a checkpoint, "auto" for the latest one, empty to start afresh
  JobOutcome outcome{};   ///< the job fills it in, on rank 0
  /// In a process that ranks have started in place of one that they have lost (`Communicator::spawn`): those ranks, and this
  /// one as the last. Its world is itself alone. Else null.
  Communicator* parents = nullptr;
};

/// What the word after a job's name means.
enum class JobArgument { none, job_file, text };

/// A program: one file in jobs/ enters it, `cohort NAME` runs it, by all ranks alike. Its result is the exit code.
///
///     const Registered<JobType> job{"train", {.summary = "trains", .argument = JobArgument::job_file, .run = train}};
struct JobType {
  std::string summary;                            ///< one line for the list of jobs
  JobArgument argument = JobArgument::none;       ///< text: a file that ends in .toml is read as a job file
  std::string argument_help{};                    ///< what it is, for --help
  std::string help{};                             ///< sample runs and more, for --help
  bool resumes = false;                           ///< knows --resume
  bool reads_only = false;                        ///< no harm where a launcher starts processes that MPI does not join
  std::function<int(Communicator& world, JobArguments& arguments)> run{};
  /// Instead of `run`: one process, without MPI, that gets all words behind the job's name.
  std::function<int(const std::vector<std::string>& words)> alone{};
};
template <>
inline constexpr std::string_view kKindOf<JobType> = "job";

/// Exit codes of every program. An error that is told to mpirun as well ends with the same code.
inline constexpr int kExitDone = 0;               ///< also where a signal asked for the end, and what was done is kept
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;              ///< the user can put it right: command line, job file, a missing file
inline constexpr int kExitLost = 3;               ///< of `cohort launch --strict`: completed, but without some ranks
inline constexpr int kExitStopped = 4;            ///< stopped as asked (a signal) before there was anything to keep: while data
                                                  ///< were loaded, or without the result of an evaluation or a text

/// The whole life of a program: signals, plug-in libraries, command line, MPI, configuration, the job, and what to do about
/// errors. `int main(int argc, char** argv) { return cohort::run_job(argc, argv); }` is a complete one.
///
/// SIGUSR1, SIGTERM and SIGINT ask for a clean end: they set the flag that Context::stop points at, nothing else; a second
/// SIGINT ends the process at once. An error that comes up on all ranks alike is printed once, and every rank finalises MPI;
/// any other is printed with rank, host and place, and the job is aborted. A rank that may be lost (`Membership`) aborts
/// nothing: it prints its error and ends. Once a rank has been lost, the others end without MPI_Finalize, which might wait for it.
///
/// If the environment variable COHORT_OUTCOME names a file, rank 0 writes there, as JSON, how the job ended: `completed`,
/// `stopped` (by which signal), `exit_code`, `error`, the ranks that were `lost` with reasons, and the job's `facts`. Where a rank was lost, the last
/// line printed says the same.
int run_job(int argc, char** argv);

}  // namespace cohort
