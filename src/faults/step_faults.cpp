// What befalls a whole rank at the beginning of a step: it is killed, stopped, or slow.
#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cohort/base/error.hpp"
#include "faults/fault_transport.hpp"

namespace cohort {
namespace {

/// Stops this process, and has another one wake it. That one does both, so that they come in this order; it must not hold
/// our connections open, which tell others that we have ended.
void pause_process(double seconds) {
  std::string command = fmt::format("kill -STOP {0}; sleep {1:.6f}; kill -CONT {0}", getpid(), seconds);
  std::string shell = "sh", option = "-c";
  char* const arguments[] = {shell.data(), option.data(), command.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int descriptor = 0; descriptor < 3; ++descriptor) {
    posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0);
  }
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  pid_t helper = 0;
  const int error = posix_spawn(&helper, "/bin/sh", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) fail(Code::failed_precondition, fmt::format("a pause needs /bin/sh to end it, which cannot be started: {}", std::strerror(error)));
  while (waitpid(helper, nullptr, 0) < 0 && errno == EINTR) {
  }
}

/// In slices, so that the end of the job ends it.
void sleep_awake(double seconds, Clock& clock, const CancelFlag& cancel) {
  constexpr double kSlice = 0.05;
  for (double left = seconds; left > 0; left -= kSlice) {
    cancel.throw_if_set();
    clock.sleep(std::min(left, kSlice));
  }
}

}  // namespace

void suffer_step(const Injection& injection, std::int64_t step) {
  const FaultPlan::StepFate fate = injection.plan->fate(injection.context.rank, step);
  const bool thread = injection.thread_ranks;
  if (fate.killed && thread) fail(Code::cancelled, fmt::format("rank {} was killed by fault injection at step {}", injection.context.rank, step));
  if (fate.killed) raise(SIGKILL);
  if (fate.pause > 0 && thread) injection.context.clock->sleep(fate.pause);
  else if (fate.pause > 0) pause_process(fate.pause);
  if (fate.slow > 0) sleep_awake(fate.slow, *injection.context.clock, *injection.cancel);
}

}  // namespace cohort
