// cohort launch: runs mpirun or srun, and answers with an exit code that says how the job ended. Open MPI returns 0 after
// any recovery, srun the code of the rank that was lost.
#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
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

namespace cohort {
namespace {

constexpr double kLinger = 10;       // seconds that a launcher may take once the job has ended
constexpr double kKillAfter = 5;     // and once it has been asked to end
constexpr std::array kForwarded = {SIGINT, SIGTERM, SIGUSR1};

double now() { return Clock::steady().now(); }

struct Call {
  bool strict = false;
  std::vector<std::string> command;
};

Call parse(const std::vector<std::string>& words) {
  Call call;
  std::size_t i = 0;
  for (; i < words.size() && words[i].starts_with("-"); ++i) {
    if (words[i] == "--") {
      ++i;
      break;
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
  explicit Child(const std::vector<std::string>& command) : signals_(signals_of_interest()) {
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
  /// lost because it is stopped, or behind a line that is cut.
  [[nodiscard]] int wait(const std::filesystem::path& outcome) {
    int status = 0;
    while (waitpid(pid_, &status, WNOHANG) != pid_) {
      pass_signals();
      if (over_at_ == 0 && std::filesystem::exists(outcome)) over_at_ = now();
      if (over_at_ > 0 && now() > over_at_ + kLinger) end_it();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

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
    const timespec second{.tv_sec = 1, .tv_nsec = 0};
    siginfo_t info{};
    const int number = sigtimedwait(&signals_, &info, &second);
    if (number > 0 && number != SIGCHLD && info.si_code <= 0) kill(pid_, number);
  }

  void end_it() {
    if (asked_at_ == 0) {
      fmt::print(stderr, "launch: the job has ended, but the launcher waits, for a lost rank most likely: ending it\n");
      asked_at_ = now();
      kill(pid_, SIGTERM);
    }
    if (now() > asked_at_ + kKillAfter) kill(pid_, SIGKILL);
  }

  sigset_t signals_;
  pid_t pid_ = -1;
  double over_at_ = 0, asked_at_ = 0;        // 0: not yet
};

/// What the launcher's own code would not say, or not right.
int conclude(const Call& call, int code, const std::optional<Outcome>& outcome) {
  const auto say = [](const std::string& text) { fmt::print(stderr, "launch: {}\n", text); };
  if (!outcome) {
    say(fmt::format("rank 0 ended before it could say how the job went; the launcher's exit code is {}", code));
    return code != 0 ? code : kExitError;
  }
  if (!outcome->completed) {
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
  Child child(call.command);
  const int code = child.wait(outcome.path());
  std::fflush(nullptr);
  return conclude(call, code, read_outcome(outcome.path()));
}

const Registered<JobType> job{
    "launch",
    {.summary = "runs mpirun or srun such that the exit code says how the job ended, ranks lost or not",
     .help = "  cohort launch [--strict] -- LAUNCHER [ARGUMENTS]\n\n"
             "  --strict             exit code 3 if ranks were lost, although the job was completed without them\n\n"
             "Exit code 0: the job was completed. Otherwise the launcher's, and never 0. SIGINT, SIGTERM and SIGUSR1 are\n"
             "passed on. Rank 0 says in a file how the job ended: the one that COHORT_OUTCOME names, else one in the current\n"
             "folder that goes afterwards. If rank 0 runs on another machine than mpirun, add -x COHORT_OUTCOME.\n\n"
             "  cohort launch -- mpirun --enable-recovery -n 8 cohort train jobs/lenet.toml\n"
             "  cohort launch -- srun --mpi=pmix --no-kill --kill-on-bad-exit=0 --wait=0 -n 8 \\\n"
             "    cohort train jobs/lenet.toml\n",
     .alone = launch}};

}  // namespace
}  // namespace cohort
