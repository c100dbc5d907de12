#include "cohort/job/job.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/about.hpp"
#include "cohort/base/stop.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/environment.hpp"
#include "cohort/comm/watched.hpp"
#include "cohort/faults/fault_injection.hpp"
#include "cohort/watch/detector.hpp"
#include "cohort/watch/membership.hpp"
#include "job/binaries.hpp"
#include "job/command_line.hpp"
#include "job/config.hpp"
#include "job/launcher.hpp"
#include "job/launcher_line.hpp"
#include "job/outcome.hpp"
#include "job/signals.hpp"
#include "job/start_line.hpp"

namespace cohort {
namespace {

constexpr double kVerdictSeconds = 2;   ///< how long a rank that failed waits for the others to fail as well

constexpr double kFinalizeSeconds = 30;   ///< for MPI_Finalize, at most; less where the watchdog waits less

/// What all ranks of a job share to end it.
struct Ending {
  std::optional<Communicator> verdict;    ///< where failures are compared
  std::shared_ptr<const Membership> membership = std::make_shared<Membership>();
  std::unique_ptr<Detector> detector;
  std::optional<LauncherLine> line;       ///< from when the detector notices which ranks end
  JobOutcome outcome;                     ///< what the job has said by its end
  StartLine* start = nullptr;             ///< outlives MPI
  double finalize_seconds = kFinalizeSeconds;
  std::optional<Communicator> parents;    ///< who has started this process, for a rank that they have lost
  [[nodiscard]] bool replacement() const noexcept { return parents.has_value(); }
};

/// What went wrong on one rank.
struct Failure {
  std::string text;      ///< "no such job file (not_found)"
  std::string place;     ///< "src/job/config.cpp:40", empty if unknown
  int exit_code = kExitError;
  bool consequence = false;   ///< of an error of another rank: a peer is gone, or waited for too long
};

/// To be called in a catch block.
Failure current_failure() {
  try {
    throw;
  } catch (const StopRequested& stop) {
    return {fmt::format("{} ({})", stop.what(), name_of_signal(stop_signal())), "", kExitStopped, false};
  } catch (const Error& error) {
    const bool usage = error.code() == Code::invalid_argument || error.code() == Code::not_found;
    const bool consequence = error.code() == Code::cancelled || error.code() == Code::deadline_exceeded ||
                             error.code() == Code::unavailable;
    return {fmt::format("{} ({})", error.what(), name(error.code())), location_text(error.where()),
            usage ? kExitUsage : kExitError, consequence};
  } catch (const std::exception& error) {
    return {plain_text(error), "", kExitError, false};
  } catch (...) {
    return {"an exception of unknown type", "", kExitError, false};
  }
}

void print_error(const std::string& line) {
  const std::string text = line + "\n";   // one write, so that lines of several ranks stay whole
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
}

void print_error(const Failure& failure, int rank, const std::string& host) {
  const std::string place = failure.place.empty() ? "" : failure.place + ": ";
  print_error(fmt::format("[rank {} on {}] {}{}", rank, host, place, failure.text));
}

/// The failures of all ranks, in rank order: none if some rank does not fail within the time, or the watchdog knows that.
std::vector<std::string> gather_failures(Communicator& verdict, const Failure& mine) {
  try {
    verdict.set_timeout(kVerdictSeconds);
    return all_gather(verdict, fmt::format("{}\n{}\n{}", mine.consequence ? 1 : 0, mine.place, mine.text));
  } catch (const Error&) {   // somebody is still at work, or gone: this rank decides alone
    return {};
  }
}

/// Prints the failure, where this rank is one to do so, and ends all ranks.
[[noreturn]] void end_all(bool speak, const Failure& mine, int rank) noexcept {
  if (speak) print_error(mine, rank, Environment::processor_name());
  std::this_thread::sleep_for(std::chrono::milliseconds(speak ? 200 : 1000));   // let all causes be printed
  abort_job(mine.exit_code);
}

/// Ends this process and no other, without MPI_Finalize, which may wait for ranks that are gone.
[[noreturn]] void leave(Ending& ending, int code) {
  ending.detector.reset();   // what it has to say arrives before
  if (ending.start != nullptr) ending.start->leave();
  std::fflush(nullptr);
  _exit(code);
}

/// A rank that the others can do without prints its own failure, or that they have given it up, and goes. Not where the
/// whole job is to end.
void leave_others_in_peace(Ending& ending, const Failure& mine, int rank) {
  if (!ending.membership->may_lose(rank) && !ending.replacement()) return;
  const Verdict verdict = ending.detector ? ending.detector->verdict() : Verdict{};
  if (verdict.kind == Verdict::Kind::lost || verdict.kind == Verdict::Kind::failed) return;
  const bool given_up = mine.consequence && verdict.kind == Verdict::Kind::excluded;
  print_error(given_up ? Failure{verdict.text, ""} : mine, rank, Environment::processor_name());
  leave(ending, kExitError);
}

/// A launcher that cuts a job off because a rank has died sends SIGTERM to the others, which looks like somebody's wish to stop:
/// only who has passed such a wish on can tell (`cohort launch`). The other signals come from people and batch systems alone.
Outcome outcome_of(const Ending& ending, int code, const std::string& error) {
  Outcome outcome{.completed = code == kExitDone, .stopped = {}, .exit_code = code, .error = error, .lost = ending.membership->losses(),
                  .facts = ending.outcome};
  if (!outcome.completed || !ending.outcome.stopped) return outcome;
  outcome.stopped = name_of_signal(stop_signal());
  if (stop_signal() != SIGTERM || outcome.lost.empty()) return outcome;
  outcome.completed = false;
  outcome.error = "stopped by SIGTERM before all was done, after a rank was lost: a launcher cuts jobs off like that";
  return outcome;
}

/// Rank 0 leaves for others how the job ended, and tells it where that is not plain.
void tell_outcome(const Ending& ending, int rank, int code, const std::string& error) {
  if (rank != 0 || ending.replacement()) return;
  const Outcome outcome = outcome_of(ending, code, error);
  write_outcome(outcome_file(), outcome);
  if (outcome.lost.empty()) return;
  std::fputs((outcome_text(outcome) + "\n").c_str(), stdout);
  std::fflush(stdout);
}

/// Tells the user, and ends the job. Returns only where all ranks do, with the same failure.
int conclude(Ending& ending, const Failure& mine, int rank, int ranks) {
  std::vector<std::string> all;
  Verdict verdict;
  if (ending.start != nullptr) ending.start->leave();
  if (ending.detector) {
    ending.detector->acknowledge();
    verdict = ending.detector->verdict();
    if (verdict.kind == Verdict::Kind::none) ending.detector->report_failure(mine.text);
  }
  if (ranks > 1 && ending.verdict && verdict.kind == Verdict::Kind::none) all = gather_failures(*ending.verdict, mine);
  const bool alike =
      (ranks == 1 && !ending.replacement()) ||
      (!all.empty() && std::ranges::all_of(all, [&](const auto& text) { return text == all.front(); }));
  if (alike) {
    const bool ours = mine.text.ends_with("(internal)");   // no mistake of the user: the place helps whoever repairs it
    const char* const kind = mine.exit_code == kExitStopped ? "" : "error: ";
    if (rank == 0) print_error(fmt::format("{}{}{}", kind, ours ? mine.place + ": " : "", mine.text));
    try {
      if (ending.detector) ending.detector->close();
    } catch (const Error&) {   // a rank has died meanwhile: its end is no news
      abort_job(mine.exit_code);
    }
    tell_outcome(ending, rank, mine.exit_code, mine.text);
    if (ending.membership->count() > 0) leave(ending, mine.exit_code);
    return mine.exit_code;
  }
  leave_others_in_peace(ending, mine, rank);
  if (ending.detector) verdict = ending.detector->verdict();
  const bool knows_more = mine.consequence && verdict.kind != Verdict::Kind::none;
  tell_outcome(ending, rank, mine.exit_code, knows_more ? verdict.text : mine.text);
  if (all.empty()) {
    if (verdict.kind == Verdict::Kind::lost) abort_job(kExitError);   // has been printed: the rank that is in trouble
    end_all(verdict.kind == Verdict::Kind::none || !mine.consequence, mine, rank);
  }
  // All failed, differently: the ranks whose failure is a consequence of the others' stay silent, unless all are.
  const bool causes = std::ranges::any_of(all, [](const auto& text) { return text.front() == '0'; });
  end_all(!causes || !mine.consequence, mine, rank);
}

/// Of COHORT_MPI_THREAD_LEVEL, for MPI libraries whose highest level is slow or broken.
ThreadLevel asked_thread_level() {
  const std::string asked = environment_variable("COHORT_MPI_THREAD_LEVEL");
  const std::optional<ThreadLevel> level = asked.empty() ? ThreadLevel::multiple : thread_level_named(asked);
  check(level.has_value(), Code::invalid_argument,
        "COHORT_MPI_THREAD_LEVEL is '" + asked + "', allowed: single funneled serialized multiple");
  return *level;
}

/// Error invalid_argument for what this job has no use for.
void check_use(const CommandLine& line, const JobType& job) {
  const auto refuse = [&](const std::string& what) {
    fail(Code::invalid_argument, fmt::format("{} takes no {}; see {} {} --help", line.job, what, line.program, line.job));
  };
  if (job.argument == JobArgument::none && !line.argument.empty()) refuse("argument, but got '" + line.argument + "'");
  if (!job.resumes && !line.resume.empty()) refuse("--resume");
}

/// What can be done before MPI starts. Its failure is reported when MPI has, so that it is printed once.
struct Prepared {
  CommandLine line;
  Configuration configuration;
  ThreadLevel threads = ThreadLevel::multiple;
  std::exception_ptr failure;
};

Configuration configuration_of(const CommandLine& line, const JobType& job) {
  const bool has_file = job.argument == JobArgument::job_file || line.argument.ends_with(".toml");
  const bool alone = launched_count(environment_variable).value_or(1) == 1;
  check(!has_file || alone || !std::filesystem::is_fifo(line.argument), Code::invalid_argument,
        line.argument + ": is a pipe, which only one process can read: give ranks a file");
  return load_configuration(has_file ? line.argument : "", line.settings);
}

Prepared prepare(int argc, char** argv) {
  Prepared prepared;
  try {   // kept, not handled: run_job's catch gets it
    prepared.threads = asked_thread_level();
    prepared.line = parse_command_line(argc, argv);
    for (const std::string& file : prepared.line.plugins) load_plugin(file);
    const CommandLine& line = prepared.line;
    if (line.version || line.help || line.job.empty()) return prepared;
    const JobType& job = Registry<JobType>::instance().get(line.job);
    check_use(line, job);
    prepared.configuration = configuration_of(line, job);
  } catch (...) {
    prepared.failure = std::current_exception();
  }
  return prepared;
}

/// Open MPI's mpirun starts further processes. Under srun rank 0 gets an error, and the other ranks wait for ever in
/// MPI_Comm_spawn (Open MPI 4.1.4 with PMIx 4.2.2), so nobody may try; srun passes on the environment of a caller under mpirun.
bool launcher_starts_processes() {
  return !environment_variable("OMPI_MCA_orte_hnp_uri").empty() && !started_by_srun();
}

/// What people find this job by, if a batch system has started it.
std::string name_in_batch_system() {
  constexpr std::array<std::pair<const char*, const char*>, 4> kSystems = {
      {{"SLURM_JOB_ID", "Slurm"}, {"PBS_JOBID", "PBS"}, {"LSB_JOBID", "LSF"}, {"JOB_ID", "Grid Engine"}}};
  for (const auto& [variable, system] : kSystems) {
    const char* const job = std::getenv(variable);
    if (job != nullptr && *job != '\0') return fmt::format("{} job {}", system, job);
  }
  return {};
}

/// Processes that start later are reached over TCP, also on the same machine.
bool asks_for_replacements(const std::string& configuration) {
  constexpr std::string_view kKey = "cluster.replace = ";
  const std::size_t at = configuration.find(kKey);
  return at != std::string::npos && configuration.compare(at + kKey.size(), 2, "0\n") != 0;
}

/// True for calls that only ask for a text: they need no MPI.
bool print_text(const CommandLine& line) {
  std::string text;
  if (line.version) text = fmt::format("{} {}\n", line.program, COHORT_VERSION);
  else if (line.job.empty()) text = usage_text(line.program);
  else if (line.help) text = help_text(line.program, line.job, Registry<JobType>::instance().get(line.job));
  else return false;
  if (launched_number(environment_variable).value_or(0) == 0) std::fputs(text.c_str(), stdout);
  return true;
}

/// Nobody knows of the other ranks: each process tells its own failure.
int conclude_without_mpi(const Failure& mine) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const std::optional<int> rank = launched_number(environment_variable);
  if (rank) print_error(mine, *rank, host.data());
  else print_error("error: " + mine.text);
  return mine.exit_code;
}

/// Error failed_precondition if the job's processes do not know of each other.
void check_together(const Communicator& world, const JobType& job) {
  if (job.reads_only) return;
  const std::string why = why_apart(world.size(), Environment::library_version(), environment_variable);
  check(why.empty(), Code::failed_precondition, why);
}

/// From here on a rank in trouble is named, and ends the job unless the others can do without it.
void watch(Communicator& world, Section& config, Ending& ending) {
  check(world.transport().thread_ranks() || Environment::thread_level() != "single", Code::failed_precondition,
        "MPI grants the thread level \"single\", but a rank has more threads than one, if only one that calls MPI: take "
        "an MPI library that grants \"funneled\" at least");
  const DetectorOptions options(config.child("watchdog"));
  world.set_timeout(options.communicator_timeout());
  if (options.timeout > 0) ending.finalize_seconds = std::clamp(options.timeout, 1.0, kFinalizeSeconds);
  const auto last_resort = [rank = world.context().rank, host = world.context().host, &ending](const Verdict& verdict) {
    tell_outcome(ending, rank, kExitError, verdict.text);
    if (verdict.kind != Verdict::Kind::excluded) abort_job(kExitError);
    print_error(Failure{verdict.text, ""}, rank, host);     // no call of MPI: this may be another thread
    _exit(kExitError);
  };
  if (ending.replacement()) {
    ending.parents->set_timeout(options.communicator_timeout());
    ending.detector = Detector::of_replacement(watched_replacement(*ending.parents), options, last_resort);
  } else {
    ending.detector = std::make_unique<Detector>(watched(world), options, last_resort);
  }
  if (world.size() > 1) ending.line.emplace();
  if (ending.start != nullptr) ending.start->reach(StartStage::watched);
}

/// The faults that the job file asks for; rank 0 says so, because such an entry is easily forgotten. None befalls a replacement:
/// what has ended the rank before it would end it as well.
void inject_faults(Communicator& world, Section& config, bool replacement) {
  const std::shared_ptr<const FaultPlan> plan = FaultPlan::from(config, world.context().ranks);
  if (plan == nullptr || replacement) return;
  if (world.rank() == 0) world.context().log.warning("[[fault]] makes things go wrong in this job: " + plan->text());
  inject(world, plan);
}

int run_named_job(Communicator& world, Prepared& prepared, Ending& ending) {
  const CommandLine& line = prepared.line;
  Configuration& configuration = prepared.configuration;
  const JobType& job = Registry<JobType>::instance().get(line.job);
  if (!ending.replacement()) check_together(world, job);
  configuration.text += fmt::format("job = {}\nargument = {}\n--resume = {}\n", line.job, line.argument, line.resume);
  if (world.size() > 1) compare_between_ranks(world, binaries_text(line.plugins), "the ranks run different programs");
  compare_between_ranks(world, configuration.text, "the ranks were started with different configurations");
  watch(world, configuration.root, ending);
  inject_faults(world, configuration.root, ending.replacement());
  if (job.argument == JobArgument::none) configuration.root.finish();
  JobArguments arguments{.config = configuration.root, .argument = line.argument, .resume = line.resume,
                         .parents = ending.replacement() ? &*ending.parents : nullptr};
  const int code = job.run(world, arguments);
  ending.detector->close();
  ending.outcome = std::move(arguments.outcome);
  return code;
}

/// The job that needs no MPI, if the command line names one.
std::optional<int> run_alone(int argc, char** argv) {
  const JobType* job = argc < 2 ? nullptr : Registry<JobType>::instance().find(argv[1]);
  const std::vector<std::string> words(argv + std::min(argc, 2), argv + argc);
  const bool help = !words.empty() && (words[0] == "--help" || words[0] == "-h");
  if (job == nullptr || !job->alone || help) return {};
  try {   // as in run_job, but for one process
    return job->alone(words);
  } catch (...) {
    const Failure failure = current_failure();
    print_error("error: " + failure.text);
    return failure.exit_code;
  }
}

}  // namespace

int run_job(int argc, char** argv) {
  survive_broken_connections();
  survive_full_files();
  if (const std::optional<int> code = run_alone(argc, argv)) return *code;   // it has nothing to keep: signals end it
  const std::atomic<bool>& stop = catch_stop_signals();
  listen_for_stop(&stop);
  Prepared prepared = prepare(argc, argv);
  std::optional<StartLine> start;
  std::optional<Environment> environment;
  Ending ending;
  int rank = 0;
  try {
    if (!prepared.failure && print_text(prepared.line)) return kExitDone;
    close_needless_listeners(asks_for_replacements(prepared.configuration.text));
    ending.start = &start.emplace();
    environment.emplace(prepared.threads);
    rank = environment->rank();
    start->reach(StartStage::joined);
    Context context;
    context.stop = &stop;
    context.launches = launcher_starts_processes();
    context.job = name_in_batch_system();
    if (environment->ranks() > 1) {
      context.log = Log(fmt::format("[rank {} on {}] ", environment->rank(), Environment::processor_name()));
    }
    if (environment->spawned()) ending.parents.emplace(environment->parents(context));
    Communicator world = ending.replacement() ? ending.parents->alone() : environment->world(context);
    rank = world.context().rank;
    ending.membership = world.membership();
    ending.verdict.emplace(world.duplicate());
    if (prepared.failure) std::rethrow_exception(prepared.failure);
    const int code = run_named_job(world, prepared, ending);
    const std::string error = code == kExitDone ? "" : fmt::format("the job's own exit code is {}", code);
    tell_outcome(ending, rank, code, error);
    if (ending.membership->count() > 0 || ending.replacement()) leave(ending, code);
    if (ending.detector->active()) environment->limit_finalize(static_cast<unsigned>(ending.finalize_seconds), code);   // all ranks are there
    return code;
  } catch (...) {   // the only place where a program ends because of an error
    const Failure failure = current_failure();
    if (!environment) return conclude_without_mpi(failure);
    const int code = conclude(ending, failure, rank, environment->ranks());
    environment->limit_finalize(static_cast<unsigned>(ending.finalize_seconds), code);
    return code;
  }
}

}  // namespace cohort
