// Rank 0 writes to a rank before the MPI library can have noticed that it is dead, and then has to get on with another one.
#include <ctime>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/job/job.hpp"
#include "fault/fault.hpp"

namespace cohort {
namespace {

using testing::print_line;

constexpr int kVictim = 1, kPartner = 2, kNumber = 1, kAnswer = 2;   // ranks, tags
constexpr int kRounds = 100;
constexpr std::size_t kBytes = 20000;

/// So that there is a connection: it is made with the first message.
void exchange(Communicator& world, int peer, std::vector<char>& out, std::vector<char>& in) {
  Transfer sending(world.transport()), receiving(world.transport());
  receiving.receive(peer, kAnswer, in.data(), in.size());
  sending.send(peer, kNumber, out.data(), out.size());
  world.wait(WaitStatus{.operation = "an answer", .peer = peer}, [&] { return sending.done() && receiving.done(); });
}

void answer(Communicator& world, std::vector<char>& bytes) {
  Transfer sending(world.transport()), receiving(world.transport());
  receiving.receive(0, kNumber, bytes.data(), bytes.size());
  world.wait(WaitStatus{.operation = "a number", .peer = 0}, [&] { return receiving.done(); });
  sending.send(0, kAnswer, bytes.data(), bytes.size());
  world.wait(WaitStatus{.operation = "a number's answer", .peer = 0}, [&] { return sending.done(); });
}

int run(Communicator& world, JobArguments& arguments) {
  arguments.config.finish();
  std::vector<char> out(kBytes), in(kBytes);
  std::vector<Transfer> lost;
  world.membership()->allow_losses({kVictim}, 30);
  const std::vector<int> processes = all_gather_value(world, static_cast<int>(getpid()));
  barrier(world);
  if (world.rank() == 0) {
    exchange(world, kVictim, out, in);
    kill(processes[kVictim], SIGKILL);
    const timespec moment{.tv_sec = 0, .tv_nsec = 200'000'000};   // without a call of MPI
    nanosleep(&moment, nullptr);
    for (int i = 0; i < 4; ++i) lost.emplace_back(world.transport()).send(kVictim, kNumber, out.data(), 100);
    for (int round = 0; round < kRounds; ++round) exchange(world, kPartner, out, in);
  } else if (world.rank() == kVictim) {
    answer(world, in);
    while (true) pause();
  } else {
    for (int round = 0; round < kRounds; ++round) answer(world, in);
  }
  print_line(fmt::format("done {}", world.rank()));
  return kExitDone;
}

const Registered<JobType> job{
    "broken_line", {.summary = "writes to a rank that has died", .argument = JobArgument::job_file, .run = run}};

}  // namespace
}  // namespace cohort
