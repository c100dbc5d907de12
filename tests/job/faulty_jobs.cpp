// A plug-in with jobs that go wrong in the ways that programs must survive; program_test.py runs them.
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>
#include <utility>

#include "cohort/comm/control.hpp"
#include "cohort/job/job.hpp"

namespace cohort {
namespace {

/// The error that the job file asks for: of rank `rank` (-1: of all), while the others wait for it.
int go_wrong(Communicator& world, JobArguments& arguments) {
  std::string how = "error";
  int rank = -1;
  arguments.config.bind("how", how, "", one_of({"error", "internal", "exception", "memory", "own", "return"}));
  arguments.config.bind("rank", rank, "", between(-1, 100));
  arguments.config.finish();
  if (rank < 0 || world.rank() == rank) {
    if (how == "error") fail(Code::invalid_argument, "this went wrong");
    if (how == "internal") fail(Code::internal, "a promise was broken");
    if (how == "exception") throw std::runtime_error("somebody else's exception");
    if (how == "memory") throw std::bad_alloc();
    if (how == "own") fail(Code::failed_precondition, fmt::format("rank {} has its own trouble", world.rank()));
    return 7;
  }
  barrier(world);
  return kExitDone;
}

/// Rank 1 fails, the others as a consequence of it: only the cause is to be told.
int consequence(Communicator& world, JobArguments& arguments) {
  arguments.config.finish();
  if (world.rank() == 1) fail(Code::data_loss, "the cause");
  fail(Code::cancelled, "the consequence");
}

/// Announces its process and waits for the wish to stop, like a training run between two steps.
int wait_for_stop(Communicator& world, JobArguments& arguments) {
  bool heed = true, told = false;
  arguments.config.bind("heed", heed, "");
  arguments.config.finish();
  fmt::print("rank {} is process {}\n", world.rank(), getpid());
  std::fflush(stdout);
  Clock& clock = *world.context().clock;
  const double end = clock.now() + 20;
  while (clock.now() < end) {
    const bool asked = all_reduce(world, std::int64_t{world.context().stop_requested()}, Reduce::max) > 0;
    if (asked && !std::exchange(told, true)) {
      fmt::print("rank {} was asked to stop\n", world.rank());
      std::fflush(stdout);
      if (heed) return kExitDone;
    }
    clock.sleep(0.01);
  }
  return kExitError;
}

const Registered<JobType> job_1{"go_wrong", {.summary = "goes wrong", .argument = JobArgument::job_file, .run = go_wrong}};
const Registered<JobType> job_2{"consequence",
                                {.summary = "goes wrong twice", .argument = JobArgument::job_file, .run = consequence}};
const Registered<JobType> job_3{"wait_for_stop",
                                {.summary = "waits", .argument = JobArgument::job_file, .run = wait_for_stop}};

}  // namespace
}  // namespace cohort
