// The smallest job that goes on without its workers: each sends numbers to rank 0, which counts them until it has enough.
#include <deque>

#include "cohort/base/error.hpp"
#include "cohort/job/job.hpp"
#include "fault/fault.hpp"

namespace cohort {
namespace {

using testing::Fault;
using testing::print_line;

constexpr int kNumber = 1, kAnswer = 2;   // tags

struct Options {
  std::int64_t updates = 200;
  double pause = 0.01, heartbeat_timeout = 1;
  Fault fault;

  explicit Options(Section& config) : fault(config) {
    config.bind("updates", updates, "numbers that rank 0 wants");
    config.bind("pause", pause, "seconds between two numbers of a worker");
    config.bind("heartbeat_timeout", heartbeat_timeout, "");
    config.finish();
  }
};

/// Rank 0's end of one worker. Stays where it is: what was sent to a lost worker is never done.
struct Worker {
  Worker(Communicator& world, int worker_rank) : rank(worker_rank), in(world.transport()), out(world.transport()) {
    receive();
  }
  void receive() { in.receive(rank, kNumber, &number, sizeof number); }

  int rank;
  std::int64_t number = 0, answer = 1;
  Transfer in, out;
  bool ended = false;
};

class Server {
 public:
  Server(Communicator& world, std::int64_t updates) : world_(world), updates_(updates) {
    for (int rank = 1; rank < world.size(); ++rank) workers_.emplace_back(world, rank);
  }
  void run() {
    while (!all_ended()) {
      world_.wait(WaitStatus{.operation = "numbers"}, [&] { return turn(); });
      world_.rank_activity()->arrive({.step = applied_});
    }
    print_line(fmt::format("applied {}", applied_));
  }

 private:
  [[nodiscard]] bool all_ended() {
    bool all = true;
    std::size_t lost = 0;
    for (const Worker& worker : workers_) {
      const bool gone = world_.membership()->lost(worker.rank);
      lost += gone ? 1 : 0;
      all = all && (gone || worker.ended);
    }
    check(applied_ >= updates_ || lost < workers_.size(), Code::unavailable, "no worker is left");
    return all;
  }
  /// True if there was something to do.
  bool turn() {
    bool busy = world_.membership()->count() != seen_;
    seen_ = world_.membership()->count();
    for (Worker& worker : workers_) {
      if (worker.ended || world_.membership()->lost(worker.rank)) continue;
      if (!worker.out.done() || !worker.in.done()) continue;
      busy = true;
      if (applied_ < updates_) ++applied_;
      else worker.answer = 0;
      worker.ended = worker.answer == 0;
      worker.out.send(worker.rank, kAnswer, &worker.answer, sizeof worker.answer);
      if (!worker.ended) worker.receive();
    }
    return busy;
  }

  Communicator& world_;
  std::int64_t updates_, applied_ = 0;
  std::size_t seen_ = 0;
  std::deque<Worker> workers_;
};

void work(Communicator& world, const Options& options) {
  std::int64_t answer = 1;
  for (std::int64_t step = 0; answer != 0; ++step) {
    world.rank_activity()->arrive({.step = step});
    if (options.fault.due(world.rank(), step, 0)) options.fault.happen();
    world.context().clock->sleep(options.pause);
    Transfer out(world.transport()), in(world.transport());
    in.receive(0, kAnswer, &answer, sizeof answer);
    out.send(0, kNumber, &step, sizeof step);
    world.wait(WaitStatus{.operation = "push", .peer = 0, .step = step}, [&] { return out.done(); });
    world.wait(WaitStatus{.operation = "pull", .peer = 0, .step = step}, [&] { return in.done(); });
  }
}

int run(Communicator& world, JobArguments& arguments) {
  const Options options(arguments.config);
  print_line(fmt::format("pid {} {}", world.rank(), getpid()));
  std::vector<int> workers;
  for (int rank = 1; rank < world.size(); ++rank) workers.push_back(rank);
  world.membership()->allow_losses(workers, options.heartbeat_timeout);
  if (world.rank() == 0) {
    Server(world, options.updates).run();
    arguments.outcome.facts = {{"updates", std::to_string(options.updates)}};
  } else {
    work(world, options);
  }
  print_line(fmt::format("done {}", world.rank()));
  return kExitDone;
}

const Registered<JobType> job{"elastic",
                              {.summary = "goes on without lost workers", .argument = JobArgument::job_file, .run = run}};

}  // namespace
}  // namespace cohort
