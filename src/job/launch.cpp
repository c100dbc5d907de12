// cohort launch: runs mpirun or srun, and answers with an exit code that says how the job ended. Open MPI returns 0 after
// any recovery, srun the code of the rank that was lost.
#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cohort/base/clock.hpp"
#include "cohort/base/error.hpp"
#include "cohort/comm/environment.hpp"
#include "job/outcome.hpp"
#include "job/start_watch.hpp"

namespace cohort {
namespace {

constexpr double kKillAfter = 5;     // seconds that a launcher may take once it has been asked to end
constexpr std::array kForwarded = {SIGINT, SIGTERM, SIGUSR1};

double now() { return Clock::steady().now(); }

struct Call {
  bool strict = false;
  double start_timeout = 120;                // seconds; so is
  double linger = 10;                        // what the launcher may take once the job has ended
  std::vector<std::string> command;
};

double seconds_in(const std::string& option, const std::string& word) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), seconds);
  const bool good = error == std::errc{} && end == word.data() + word.size() && std::isfinite(seconds) && seconds > 0;
  check(good, Code::invalid_argument, fmt::format("launch {} '{}': expected seconds above 0", option, word));
  return seconds;
}

Call parse(const std::vector<std::string>& words) {
  Call call;
  std::size_t i = 0;
  for (; i < words.size() && words[i].starts_with("-"); ++i) {
    if (words[i] == "--") {
      ++i;
      break;
    }
    if (words[i] == "--start-timeout" || words[i] == "--linger") {
      double& seconds = words[i] == "--linger" ? call.linger : call.start_timeout;
      seconds = seconds_in(words[i], i + 1 < words.size() ? words[i + 1] : "");
      ++i;
      continue;
    }
    check(words[i] == "--strict", Code::invalid_argument,
          fmt::format("launch knows no option {}; the launcher's own follow behind --, as in cohort launch -- mpirun -n 4",
                      words[i]));
    call.strict = true;
  }
  call.command.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
  check(!call.command.empty(), Code::invalid_argument,
        "launch: no command; as in cohort launch -- mpirun -n 4 cohort train jobs/lenet.toml");
  return call;
}

/// Where rank 0 is to write: where the user wants it, else in the folder that the ranks start in, since they may be on other
/// machines.
class OutcomeFile {
 public:
  OutcomeFile() : file_(outcome_file()), given_(!file_.empty()) {
    namespace fs = std::filesystem;
    if (!given_) {
      std::error_code error;
      const fs::path here = fs::current_path(error);
      const bool writable = !error && access(here.c_str(), W_OK) == 0;
      file_ = (writable ? here : fs::temp_directory_path()) / fmt::format(".cohort-outcome-{}.json", getpid());
    }
    remove();                                  // of an earlier run
    setenv("COHORT_OUTCOME", file_.c_str(), 1);
  }
  OutcomeFile(const OutcomeFile&) = delete;
  OutcomeFile& operator=(const OutcomeFile&) = delete;
  ~OutcomeFile() {
    if (!given_) remove();
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return file_; }

 private:
  void remove() const {
    std::error_code error;
    std::filesystem::remove(file_, error);
  }

  std::filesystem::path file_;
  bool given_;
};

sigset_t signals_of_interest() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int number : kForwarded) sigaddset(&set, number);
  return set;
}

/// The launcher as a child of this process. Signals that came to this process alone are passed on; those of a terminal go to
/// both anyway.
class Child {
 public:
  Child(const std::vector<std::string>& command, double linger) : signals_(signals_of_interest()), linger_(linger) {
    sigset_t before;
    sigprocmask(SIG_BLOCK, &signals_, &before);
    std::array<int, 2> failure{};              // closes when the command has begun
    check(pipe2(failure.data(), O_CLOEXEC) == 0, Code::failed_precondition, "launch: no more file descriptors");
    pid_ = fork();
    check(pid_ >= 0, Code::failed_precondition, fmt::format("launch: cannot start a process: {}", std::strerror(errno)));
    if (pid_ == 0) become(command, before, failure[1]);
    close(failure[1]);
    int reason = 0;
    const bool failed = read(failure[0], &reason, sizeof reason) == sizeof reason;
    close(failure[0]);
    if (!failed) return;
    waitpid(pid_, nullptr, 0);
    fail(Code::not_found, fmt::format("launch: cannot run {}: {}", command.front(), std::strerror(reason)));
  }

  /// Its exit code, 128 + number if a signal ended it. Ends it where it stays although the job is over: for a rank that was
  /// lost because it is stopped, or behind a line that is cut; and where not all ranks begin.
  [[nodiscard]] int wait(const std::filesystem::path& outcome, StartWatch& watch) {
    int status = 0;
    while (waitpid(pid_, &status, WNOHANG) != pid_) {
      pass_signals();
      watch.turn();
      if (over_at_ == 0 && (std::filesystem::exists(outcome) || watch.only_rank_0_stays())) over_at_ = now();
      if (over_at_ > 0 && now() > over_at_ + linger_) end_it(lingering_text(watch));
      if (over_at_ == 0 && trouble_.empty()) trouble_ = watch.trouble();
      if (trouble_.empty()) continue;
      if (asked_at_ == 0) watch.end_ranks();
      end_it("the job cannot begin: " + trouble_ + "; ending it");
    }
    watch.turn();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  /// A wish to stop that this process has passed on, or that a terminal has sent to both.
  [[nodiscard]] bool has_passed_stop() const noexcept { return passed_stop_; }
  /// Why the job could not begin; empty: it could.
  [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }

 private:
  [[noreturn]] static void become(const std::vector<std::string>& command, const sigset_t& mask, int failure) {
    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    sigprocmask(SIG_SETMASK, &mask, nullptr);
    execvp(words[0], words.data());
    const int reason = errno;
    if (write(failure, &reason, sizeof reason) < 0) _exit(126);
    _exit(127);
  }

  void pass_signals() {
    const timespec pause{.tv_sec = 0, .tv_nsec = 100'000'000};
    siginfo_t info{};
    const int number = sigtimedwait(&signals_, &info, &pause);
    if (number <= 0 || number == SIGCHLD) return;
    passed_stop_ = true;
    if (info.si_code <= 0) kill(pid_, number);
  }

  static std::string lingering_text(const StartWatch& watch) {
    const std::string there = watch.still_there(), gone = watch.first_gone();
    std::string text = "the job has ended, but the launcher waits, for a lost rank most likely: ending it";
    if (!gone.empty()) text += fmt::format("; {}has ended without a word", gone + " ");
    return there.empty() ? text : fmt::format("{}; still there: {}", text, there);
  }

  void end_it(const std::string& why) {
    if (asked_at_ == 0) {
      fmt::print(stderr, "launch: {}\n", why);
      asked_at_ = now();
      kill(pid_, SIGTERM);
    }
    if (now() > asked_at_ + kKillAfter) kill(pid_, SIGKILL);
  }

  sigset_t signals_;
  double linger_;
  pid_t pid_ = -1;
  double over_at_ = 0, asked_at_ = 0;        // 0: not yet
  bool passed_stop_ = false;
  std::string trouble_;
};

/// What the launcher's own code would not say, or not right.
int conclude(const Call& call, int code, const std::optional<Outcome>& outcome, const Child& child, const StartWatch& watch) {
  const auto say = [](const std::string& text) { fmt::print(stderr, "launch: {}\n", text); };
  if (!child.trouble().empty()) return code != 0 ? code : kExitError;      // has been said
  if (!outcome) {
    const std::string first = watch.first_gone().empty() ? "" : "; the first to end without a word was " + watch.first_gone();
    say(fmt::format("rank 0 ended before it could say how the job went; the launcher's exit code is {}{}", code, first));
    return code != 0 ? code : kExitError;
  }
  const bool as_asked = !outcome->stopped.empty() && child.has_passed_stop();
  if (!outcome->stopped.empty() && !as_asked && code != kExitDone) {
    say(fmt::format("the job is not completed: {} stopped it before all was done, which nobody has asked for here, and the launcher's exit code "
                    "is {}: it has cut the job off because a rank has died, most likely{}",
                    outcome->stopped, code, watch.first_gone().empty() ? "" : ": " + watch.first_gone()));
    return code;
  }
  if (!outcome->completed && !as_asked) {
    say("the job is not completed: " + outcome->error);
    if (code != 0) return code;
    return outcome->exit_code != kExitDone ? outcome->exit_code : kExitError;
  }
  if (call.strict && !outcome->lost.empty()) {
    const std::size_t lost = outcome->lost.size();
    say(fmt::format("the job is completed, but has lost {} rank{} (--strict)", lost, lost == 1 ? "" : "s"));
    return kExitLost;
  }
  if (code != kExitDone) say(fmt::format("the job is completed, whatever the launcher's exit code {} says", code));
  return kExitDone;
}

int launch(const std::vector<std::string>& words) {
  const Call call = parse(words);
  const OutcomeFile outcome;
  Environment::skip_displays();
  StartWatch watch(call.start_timeout, call.command);
  Child child(call.command, call.linger);
  const int code = child.wait(outcome.path(), watch);
  std::fflush(nullptr);
  return conclude(call, code, read_outcome(outcome.path()), child, watch);
}

const Registered<JobType> job{
    "launch",
    {.summary = "runs mpirun or srun such that the exit code says how the job ended, ranks lost or not",
     .help = "  cohort launch [--strict] [--start-timeout SECONDS] [--linger SECONDS] -- LAUNCHER [ARGUMENTS]\n\n"
             "  --strict             exit code 3 if ranks were lost, although the job was completed without them\n"
             "  --start-timeout 120  seconds from the first rank's beginning until all have met: then the job ends, and\n"
             "                       those that are missing are named. One that dies meanwhile ends it at once\n"
             "  --linger 10          seconds that the launcher may take once the job has ended, before it is ended: it waits for\n"
             "                       a rank that was lost because it is stopped, and for one behind a line that is cut\n\n"
             "Exit code 0: all steps were made, or the job was stopped by a signal that came here. Otherwise the launcher's,\n"
             "and never 0, also where the launcher cut the job off. SIGINT, SIGTERM and SIGUSR1 are\n"
             "passed on. Rank 0 says in a file how the job ended: the one that COHORT_OUTCOME names, else one in the current\n"
             "folder that goes afterwards. If rank 0 runs on another machine than mpirun, add -x COHORT_OUTCOME.\n\n"
             "  cohort launch -- mpirun --enable-recovery -n 8 cohort train jobs/lenet.toml\n"
             "  cohort launch -- srun --mpi=pmix --no-kill --kill-on-bad-exit=0 --wait=0 -n 8 \\\n"
             "    cohort train jobs/lenet.toml\n",
     .alone = launch}};

}  // namespace
}  // namespace cohort
