// Two parameter tasks that lose a worker start another process in its place, talk with it, and lose it as well.
#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/job/job.hpp"
#include "fault/fault.hpp"

namespace cohort {
namespace {

using testing::print_line;

constexpr int kTasks = 2, kNumber = 1, kAnswer = 2;

void wait_for_losses(Communicator& communicator, std::size_t count) {
  communicator.wait(WaitStatus{.operation = "a loss"}, [&] { return communicator.membership()->count() >= count; });
}

/// A number to the replacement and back.
void talk(Communicator& joined) {
  const int last = joined.size() - 1;
  int number = 10 * (joined.rank() + 1), answer = 0;
  Transfer out(joined.transport()), in(joined.transport());
  in.receive(last, kAnswer, &answer, sizeof answer);
  out.send(last, kNumber, &number, sizeof number);
  joined.wait(WaitStatus{.operation = "an answer", .peer = last}, [&] { return out.done() && in.done(); });
  check(answer == number + 1, Code::internal, "the replacement answered something else");
}

void answer(Communicator& joined) {
  for (int task = 0; task < kTasks; ++task) {
    int number = 0;
    Transfer out(joined.transport()), in(joined.transport());
    in.receive(task, kNumber, &number, sizeof number);
    joined.wait(WaitStatus{.operation = "a number", .peer = task}, [&] { return in.done(); });
    ++number;
    out.send(task, kAnswer, &number, sizeof number);
    joined.wait(WaitStatus{.operation = "a number's answer", .peer = task}, [&] { return out.done(); });
  }
}

int run(Communicator& world, JobArguments& arguments) {
  bool die = false;
  arguments.config.bind("die", die, "the replacement is killed as well");
  arguments.config.finish();
  if (arguments.parents != nullptr) {
    answer(*arguments.parents);
    print_line(fmt::format("replacement for rank {} of {}, on {} machine", world.context().rank, world.context().ranks, arguments.parents->nodes().nodes()));
    if (die) raise(SIGKILL);
    return kExitDone;
  }
  print_line(fmt::format("pid {} {}", world.rank(), getpid()));
  Communicator tasks = world.split(world.rank() < kTasks ? 0 : 1);
  std::vector<int> workers;
  for (int rank = kTasks; rank < world.size(); ++rank) workers.push_back(rank);
  world.membership()->allow_losses(workers, 30);
  barrier(world);
  if (world.rank() == kTasks) raise(SIGKILL);
  if (world.rank() < kTasks) {
    wait_for_losses(tasks, 1);
    const double begin = Clock::steady().now();
    Communicator joined = tasks.spawn(kTasks);
    joined.be_watched();
    check(!world.membership()->lost(kTasks), Code::internal, "a replaced rank counts as lost");
    talk(joined);
    print_line(fmt::format("replaced in {:.2f} s", Clock::steady().now() - begin));
    if (die) wait_for_losses(joined, 2);
  }
  print_line(fmt::format("done {}", world.rank()));
  return kExitDone;
}

const Registered<JobType> job{"respawn",
                              {.summary = "replaces a lost worker", .argument = JobArgument::job_file, .run = run}};

}  // namespace
}  // namespace cohort
