// What does an all-reduce add to a step? Every iteration rewrites its input and reads its result, so that the traffic of
// cache lines between the cores is in the figure; the time of writing and reading alone is taken off.
//
//   mpirun -n 2 allreduce_benchmark [--rounds 15] [--largest 67108864]
//
// Contenders take turns within each round, since a shared machine changes its speed from minute to minute: compare
// columns of one run, and look at the core-to-core latency beside them.

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/environment.hpp"

namespace cohort {
namespace {

struct Settings {
  int rounds = 15;
  std::size_t largest = 64u << 20;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Half a round trip of one cache line between the first two ranks, in seconds.
double core_latency(Communicator& c, SharedMemory& memory) {
  if (c.size() < 2) return 0;
  const std::atomic_ref flag(*reinterpret_cast<std::uint64_t*>(memory.part(0).data()));
  constexpr std::uint64_t kTurns = 2000;
  if (c.rank() == 0) flag.store(0, std::memory_order_release);
  c.barrier();
  const double start = c.context().clock->now();
  for (std::uint64_t turn = static_cast<std::uint64_t>(c.rank()); c.rank() < 2 && turn < kTurns; turn += 2) {
    Backoff backoff(*c.context().clock, 1000);
    while (flag.load(std::memory_order_acquire) != turn) backoff.pause();
    flag.store(turn + 1, std::memory_order_release);
  }
  return (c.context().clock->now() - start) / static_cast<double>(kTurns);
}

struct Contender {
  std::string name;
  float* data;
  std::function<void(std::int64_t step)> exchange;
};

/// Sum in eight lanes: reads at the speed of memory.
float read_all(const float* data, std::size_t n) {
  float lanes[8] = {};
  for (std::size_t i = 0; i + 8 <= n; i += 8) {
    for (std::size_t k = 0; k < 8; ++k) lanes[k] += data[i + k];
  }
  return std::accumulate(lanes, lanes + 8, 0.f);
}

/// Seconds per iteration, of the slowest rank.
double measure(Communicator& c, const Contender& contender, std::size_t n, int iterations) {
  float read = 0;
  c.barrier();
  const double start = c.context().clock->now();
  for (int i = 0; i < iterations; ++i) {
    std::fill_n(contender.data, n, static_cast<float>(c.rank() + i));
    contender.exchange(i);
    read += read_all(contender.data, n);
    const float expected = static_cast<float>(c.size() * i + c.size() * (c.size() - 1) / 2);
    if (contender.name != "none" && contender.data[n - 1] != expected) {
      fail(Code::internal, fmt::format("{}: {} instead of {}", contender.name, contender.data[n - 1], expected));
    }
  }
  const double mine = (c.context().clock->now() - start) / iterations;
  check(read >= 0, Code::internal, "a sum of positive numbers is negative");   // so `read` is needed
  return c.all_reduce(mine, Reduce::max);
}

CollectiveOptions options_of(const std::string& algorithm) {
  CollectiveOptions options;
  options.algorithm = algorithm;
  return options;
}

void print(const Settings& settings, std::size_t bytes, const std::vector<std::vector<double>>& seconds, double latency) {
  fmt::print("{:>9} KiB", bytes / 1024);
  for (std::size_t k = 1; k < seconds.size(); ++k) {
    std::vector<double> added, ratio;
    for (std::size_t r = 0; r < static_cast<std::size_t>(settings.rounds); ++r) {
      added.push_back(seconds[k][r] - seconds[0][r]);
      ratio.push_back((seconds[1][r] - seconds[0][r]) / added.back());
    }
    fmt::print("  {:>10.1f} {:>6}", median(added) * 1e6, fmt::format("x{:.1f}", median(ratio)));
  }
  fmt::print("  {:>6.0f} ns\n", latency * 1e9);
  std::fflush(stdout);
}

void run_size(Communicator& c, const Settings& settings, SharedMemory& memory, std::size_t bytes) {
  const std::size_t n = bytes / sizeof(float);
  std::vector<float> plain(n, 0.f);
  std::vector<std::unique_ptr<Collective>> collectives;
  std::vector<Buffer> buffers;
  std::vector<Contender> contenders{
      {"none", plain.data(), [](std::int64_t) {}},
      {"MPI, one call", plain.data(), [&](std::int64_t) { c.transport().library()->all_reduce(plain.data(), n); }}};
  for (const std::string algorithm : {"mpi", "ring", "shared_memory"}) {
    Collective& collective = *collectives.emplace_back(make_collective(c, options_of(algorithm)));
    float* data = static_cast<float*>(buffers.emplace_back(collective.allocate(bytes)).memory.get());
    Work& work = collective.all_reduce({.data = data, .n = n});
    contenders.push_back({algorithm, data, [&work](std::int64_t step) { work.start(step), work.wait(); }});
  }
  const int iterations = std::clamp(static_cast<int>((16u << 20) / bytes), 2, 400);
  std::vector<std::vector<double>> seconds(contenders.size());
  double latency = 1;
  for (int round = 0; round <= settings.rounds; ++round) {   // the first round warms up
    latency = std::min(latency, core_latency(c, memory));
    for (std::size_t k = 0; k < contenders.size(); ++k) {
      const double time = measure(c, contenders[k], n, iterations);
      if (round > 0) seconds[k].push_back(time);
    }
  }
  if (c.rank() == 0) print(settings, bytes, seconds, latency);
}

/// Seconds that the ranks need to agree on an operation: an empty bucket has nothing else to do.
double agreement_time(Communicator& c) {
  const auto collective = make_collective(c, options_of("ring"));
  Work& work = collective->all_reduce({});
  constexpr int kTimes = 5000;
  c.barrier();
  const double start = c.context().clock->now();
  for (int i = 0; i < kTimes; ++i) {
    work.start(i);
    work.wait();
  }
  return (c.context().clock->now() - start) / kTimes;
}

Settings settings_of(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--rounds") settings.rounds = std::max(1, std::atoi(argv[i + 1]));
    else if (option == "--largest") settings.largest = std::strtoull(argv[i + 1], nullptr, 10);
    else fail(Code::invalid_argument, "unknown option " + option + ": --rounds or --largest");
  }
  return settings;
}

void run(const Settings& settings, Communicator& c) {
  if (c.rank() == 0) {
    fmt::print("{} ranks, {}: microseconds added to writing and reading the bucket (times faster than one call), medians of "
               "{}\n", c.size(), Environment::library_version(), settings.rounds);
    fmt::print("{:>13}  {:>17}  {:>17}  {:>17}  {:>17}  core to core\n", "bucket", "MPI, one call", "mpi, 1 MiB pieces",
               "ring", "shared_memory");
  }
  const auto memory = c.allocate_shared(64);
  const double agreement = agreement_time(c);
  if (c.rank() == 0) fmt::print("{:>13}  {:.2f} to agree on an operation\n", "", agreement * 1e6);
  for (const std::size_t kib : {4u, 256u, 4096u, 65536u}) {
    if (kib * 1024 <= settings.largest) run_size(c, settings, *memory, kib * 1024);
  }
}

}  // namespace
}  // namespace cohort

int main(int argc, char** argv) {
  try {
    const cohort::Environment environment;
    cohort::Communicator world = environment.world(cohort::Context{});
    cohort::run(cohort::settings_of(argc, argv), world);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    cohort::abort_job(1);
  }
}
