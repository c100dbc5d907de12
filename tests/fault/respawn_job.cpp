// Two parameter tasks that lose a worker start another process in its place, talk with it, and lose it as well.
#include "cohort/base/error.hpp"
#include "cohort/comm/detector.hpp"
#include "cohort/comm/environment.hpp"
#include "cohort/job/job.hpp"
#include "fault/fault.hpp"

namespace cohort {
namespace {

using testing::print_line;

constexpr int kTasks = 2, kNumber = 1, kAnswer = 2;

void wait_for_loss(Communicator& communicator, const Membership& membership) {
  communicator.wait(WaitStatus{.operation = "a loss"}, [&] { return membership.count() > 0; });
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

/// All ranks of `joined`: the last one may be lost.
std::unique_ptr<Detector> watch(Communicator& joined) {
  joined.set_timeout(20);
  DetectorOptions options;
  options.timeout = 10;
  auto detector = std::make_unique<Detector>(joined, options, [](const Verdict&) { _exit(kExitError); });
  joined.membership()->allow_losses({joined.size() - 1}, 2);
  joined.barrier();
  return detector;
}

int run(Communicator& world, JobArguments& arguments) {
  std::string plugin;
  bool die = false;
  arguments.config.bind("plugin", plugin, "this library, for the replacement");
  arguments.config.bind("die", die, "the replacement is killed as well");
  arguments.config.finish();
  if (Environment::spawned()) {
    Communicator joined = Environment::parents(world);
    const std::unique_ptr<Detector> detector = watch(joined);
    answer(joined);
    print_line(fmt::format("replacement for rank {}, on {} machine", joined.context().rank, joined.nodes().nodes()));
    if (die) raise(SIGKILL);
    detector->close();
    return kExitDone;
  }
  print_line(fmt::format("pid {} {}", world.rank(), getpid()));
  Communicator tasks = world.split(world.rank() < kTasks ? 0 : 1);
  std::vector<int> workers;
  for (int rank = kTasks; rank < world.size(); ++rank) workers.push_back(rank);
  world.membership()->allow_losses(workers, 2);
  world.barrier();
  if (world.rank() == kTasks) raise(SIGKILL);
  if (world.rank() < kTasks) {
    wait_for_loss(tasks, *world.membership());
    const double begin = Clock::steady().now();
    Communicator joined = tasks.spawn({"respawn", "--plugin", plugin, "--set", fmt::format("die={}", die)},
                                      world.membership()->losses()[0].rank);
    const std::unique_ptr<Detector> detector = watch(joined);
    talk(joined);
    print_line(fmt::format("replaced in {:.2f} s", Clock::steady().now() - begin));
    if (die) wait_for_loss(joined, *joined.membership());
    detector->close();
  }
  print_line(fmt::format("done {}", world.rank()));
  return kExitDone;
}

const Registered<JobType> job{"respawn",
                              {.summary = "replaces a lost worker", .argument = JobArgument::job_file, .run = run}};

}  // namespace
}  // namespace cohort
