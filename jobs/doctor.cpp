// Tells in a moment whether this machine, or this set of machines, is ready: ranks and hosts, cores and binding, devices,
// MPI, libraries, what is missing and how to get it.
//
//   cohort doctor
//   mpirun -n 4 cohort doctor
//
// 1. Each rank describes itself.   2. The ranks of each machine try shared memory.   3. Rank 0 prints and warns.
#include <fmt/core.h>
#include <netdb.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cohort/base/clock.hpp"
#include "cohort/base/library.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/environment.hpp"
#include "cohort/job/job.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {
namespace {

/// What one rank can use.
struct RankFacts {
  std::array<char, 64> host{};
  std::array<char, 128> devices{};
  cpu_set_t cores{};
  int processors = 0;      ///< of the machine, bound or not
  int process = 0;
  bool shared_memory = false;
  double own_name = 0, localhost = 0;   ///< seconds that looking them up took; 0: this rank has not tried
};

template <std::size_t N>
void set_text(std::array<char, N>& to, const std::string& text) {
  std::strncpy(to.data(), text.c_str(), N - 1);
}

std::string device_text() {
  std::string text;
  for (const auto& [type, entry] : Registry<DeviceType>::instance().entries()) {
    const int count = entry.value.count();
    if (count > 0) text += (text.empty() ? "" : ", ") + type + (count > 1 ? fmt::format(" ({})", count) : "");
  }
  return text;
}

constexpr double kLookUpLimit = 3, kSlowLookUp = 0.5;   // seconds

/// Seconds until the system has found the name, or says that there is none. On a thread, because the system's own look-up
/// cannot be told to end: it stays behind where a name server is silent.
std::future<double> look_up(const std::string& name) {
  auto seconds = std::make_shared<std::promise<double>>();
  std::future<double> result = seconds->get_future();
  std::thread([name, seconds] {
    const double begin = Clock::steady().now();
    addrinfo* found = nullptr;
    if (getaddrinfo(name.c_str(), nullptr, nullptr, &found) == 0) freeaddrinfo(found);
    seconds->set_value(Clock::steady().now() - begin);
  }).detach();
  return result;
}

/// Of the machine that this rank is on.
void measure_look_ups(RankFacts& facts) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::duration<double>(kLookUpLimit);
  std::future<double> own_name = look_up(facts.host.data()), localhost = look_up("localhost");
  const auto seconds = [&](std::future<double>& answer) {
    return answer.wait_until(limit) == std::future_status::ready ? answer.get() : kLookUpLimit;
  };
  facts.own_name = seconds(own_name);
  facts.localhost = seconds(localhost);
}

RankFacts describe_rank(const Communicator& world) {
  RankFacts facts;
  set_text(facts.host, world.context().host);
  set_text(facts.devices, device_text());
  CPU_ZERO(&facts.cores);
  if (sched_getaffinity(0, sizeof facts.cores, &facts.cores) != 0) CPU_ZERO(&facts.cores);
  facts.processors = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  facts.process = static_cast<int>(getpid());
  const NodeMap& nodes = world.nodes();
  if (nodes.ranks_of(nodes.node_of(world.rank())).front() == world.rank()) measure_look_ups(facts);
  return facts;
}

/// Collective. True if this rank reads what its neighbours on this machine wrote.
bool shared_memory_works(Communicator& world) {
  Communicator node = world.split(world.nodes().node_of(world.rank()));
  const std::shared_ptr<SharedMemory> memory = node.allocate_shared(64);
  memory->part(node.rank())[0] = static_cast<std::byte>(node.rank() + 1);
  barrier(node);
  bool good = true;
  for (int rank = 0; rank < node.size(); ++rank) good = good && memory->part(rank)[0] == static_cast<std::byte>(rank + 1);
  barrier(node);
  return good;
}

/// "0-3 8" of a set of cores.
std::string core_text(const cpu_set_t& cores) {
  std::string text;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &cores)) continue;
    int last = core;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &cores)) ++last;
    text += (text.empty() ? "" : " ") + std::to_string(core);
    if (last > core) text += "-" + std::to_string(last);
    core = last;
  }
  return text.empty() ? "unknown" : text;
}

void print_ranks(const Communicator& world, const std::vector<RankFacts>& all) {
  fmt::print("{}\n", world.nodes().text());
  constexpr auto kRow = "  {:>4}  {:<20} {:>8}  {:<22} {:<14} {}\n";
  fmt::print(kRow, "rank", "host", "process", "cores", "devices", "shared memory");
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const RankFacts& facts = all[rank];
    const std::string cores =
        fmt::format("{} of {} ({})", CPU_COUNT(&facts.cores), facts.processors, core_text(facts.cores));
    fmt::print(kRow, rank, facts.host.data(), facts.process, cores, facts.devices.data(),
               facts.shared_memory ? "works" : "DOES NOT WORK");
  }
}

void print_libraries() {
  fmt::print("\nlibraries\n");
  for (const auto& [name, entry] : Registry<Library>::instance().entries()) {
    fmt::print("  {:<10} {:<22} {}\n", name, entry.value.version(), entry.value.purpose);
  }
  fmt::print("  MPI grants threads: {}\n", Environment::thread_level());
}

bool on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const auto end = std::min(rest.find(':'), rest.size());
    if (access((std::filesystem::path(rest.substr(0, end)) / program).c_str(), X_OK) == 0) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

/// What the examples and their user may want, and the Debian package that has it.
void print_extras() {
  struct Extra {
    bool found;
    std::string what, package;
  };
  const std::vector<Extra> extras = {
      {on_path("mpirun") || on_path("srun"), "mpirun, to start several ranks", "openmpi-bin"},
      {std::filesystem::exists("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"),
       "Fashion-MNIST, the data of jobs/lenet.toml", "dataset-fashion-mnist"},
      {on_path("h5dump"), "h5dump, to look into checkpoints", "hdf5-tools"},
  };
  fmt::print("\nbeside them\n");
  for (const Extra& extra : extras) {
    fmt::print("  {:<8} {}{}\n", extra.found ? "found" : "MISSING", extra.what,
               extra.found ? "" : ": apt-get install " + extra.package);
  }
}

/// How to start a job that goes on without workers that die, and whether this one was started so.
void print_recovery(const Communicator& world) {
  constexpr auto kRow = "  {:<10} {}\n";
  constexpr auto kCall = "cohort launch -- {} -n 8 cohort train JOB.toml --set cluster.ps=1 --set train.updater=async";
  const std::string library = Environment::library_version();
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const bool srun = variable("PMIX_NAMESPACE").starts_with("slurm."), slurm = !variable("SLURM_JOB_ID").empty();
  const bool mpirun = world.context().launches;
  std::string here = "one process: no launcher";
  if (mpirun) {
    here = variable("OMPI_MCA_orte_enable_recovery") == "1"
               ? "mpirun would let the others live"
               : "mpirun would end the job: it was started without --enable-recovery";
  } else if (srun) {
    here = "srun would let the others live where it was started as below";
  } else if (world.size() > 1) {
    here = "it is not known what this launcher does";
  }
  fmt::print("\nif a worker dies (with parameter tasks, [cluster] ps > 0)\n");
  fmt::print(kRow, "this run", here);
  if (!library.starts_with("Open MPI v4")) {
    fmt::print(kRow, "mpirun", fmt::format("known for Open MPI 4 alone, this is {}", library));
  } else if (on_path("mpirun")) {
    fmt::print(kRow, "mpirun", fmt::format(kCall, "mpirun --enable-recovery"));
    fmt::print(kRow, "", "a machine that dies ends the job");
  }
  if (slurm || on_path("srun")) {
    fmt::print(kRow, "srun", fmt::format(kCall, "srun --mpi=pmix --no-kill --kill-on-bad-exit=0 --wait=0"));
    fmt::print(kRow, "", "a machine that dies, too, in a job that was started with --no-kill (sbatch, salloc)");
  }
}

/// What makes the ranks of one machine slow.
std::string crowding(std::span<const int> ranks, const std::vector<RankFacts>& all) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  for (const int rank : ranks) CPU_OR(&cores, &cores, &all[static_cast<std::size_t>(rank)].cores);
  const RankFacts& first = all[static_cast<std::size_t>(ranks.front())];
  const int count = CPU_COUNT(&cores);
  if (static_cast<int>(ranks.size()) > count) {
    return fmt::format("{}: oversubscribed: {} ranks share {} cores; start at most {} there, or expect all to be slow",
                       first.host.data(), ranks.size(), count, count);
  }
  if (count < first.processors) {
    return fmt::format("{}: {} of {} cores lie idle: the launcher bound the ranks; mpirun --bind-to none lets them use all",
                       first.host.data(), first.processors - count, first.processors);
  }
  return {};
}

/// What makes programs on a machine start late.
std::string late_name(const RankFacts& facts, const std::string& name, double seconds, const std::string& address) {
  if (seconds < kSlowLookUp) return {};
  const std::string how = seconds < kLookUpLimit ? fmt::format("takes {:.1f} s", seconds)
                                                 : fmt::format("has no answer within {:.0f} s", seconds);
  return fmt::format("{}: looking up the name {} {}, and whatever does so at its start waits as long; with the line \"{} {}\" in "
                     "/etc/hosts it does not", facts.host.data(), name, how, address, name);
}

std::vector<std::string> warnings(const Communicator& world, const std::vector<RankFacts>& all) {
  std::vector<std::string> texts;
  for (int node = 0; node < world.nodes().nodes(); ++node) {
    const std::span<const int> ranks = world.nodes().ranks_of(node);
    const RankFacts& first = all[static_cast<std::size_t>(ranks.front())];
    for (std::string text : {crowding(ranks, all), late_name(first, first.host.data(), first.own_name, "127.0.1.1"),
                             late_name(first, "localhost", first.localhost, "127.0.0.1")}) {
      if (!text.empty()) texts.push_back(std::move(text));
    }
  }
  for (const RankFacts& facts : all) {
    if (facts.shared_memory) continue;
    texts.push_back(fmt::format("{}: shared memory windows do not work: is /dev/shm full?", facts.host.data()));
  }
  if (Environment::thread_level() != "multiple") {
    texts.emplace_back("MPI does not grant MPI_THREAD_MULTIPLE: no thread of its own exchanges gradients (exchange.thread), "
                       "and parameter tasks must be dedicated ([cluster] ps)");
  }
  return texts;
}

int doctor(Communicator& world, JobArguments&) {
  RankFacts mine = describe_rank(world);
  mine.shared_memory = shared_memory_works(world);
  const std::vector<RankFacts> all = all_gather_value(world, mine);
  if (world.rank() != 0) return kExitDone;
  print_ranks(world, all);
  print_libraries();
  print_extras();
  print_recovery(world);
  const std::vector<std::string> texts = warnings(world, all);
  fmt::print("\n{}\n", texts.empty() ? "ready" : "ready, but:");
  for (const std::string& text : texts) fmt::print("  warning: {}\n", text);
  return kExitDone;
}

const Registered<JobType> job{"doctor", {.summary = "tells whether this machine is ready: ranks, cores, devices, libraries",
                                         .run = doctor}};

}  // namespace
}  // namespace cohort
