// What does an all-reduce add to a step? Every iteration rewrites its input and reads its result, so that the traffic of
// cache lines between the cores is in the figure; the time of writing and reading alone is taken off.
//
//   mpirun -n 2 allreduce_benchmark [--rounds 15] [--smallest 4096] [--largest 67108864] [--only ring,direct]
//                                   [--nodes 2,1] [--line-gbit 1] [--chunk 1048576]
//                                   [--codecs fp32,bf16,int8]
//
// All collectives that fit take turns within each round, since a shared machine changes its speed from minute to minute:
// compare columns of one run, and look at the latencies beside them. --nodes pretends another placement, with so many
// ranks on each node. With --line-gbit every column also says which share of that line rate the nodes sent and received:
// M nodes have to move at least 2(M-1)/M of the bucket each way, as float32: with a codec it can be more than all.

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/environment.hpp"

namespace cohort {
namespace {

struct Settings {
  int rounds = 15;
  std::size_t smallest = 4096, largest = 64u << 20;
  double line_gbit = 0;
  std::int64_t chunk = CollectiveOptions().chunk_bytes;
  std::string only, codecs = "fp32";
  std::vector<int> nodes;   // ranks on each; empty: as they are
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
  barrier(c);
  const double start = c.context().clock->now();
  for (std::uint64_t turn = static_cast<std::uint64_t>(c.rank()); c.rank() < 2 && turn < kTurns; turn += 2) {
    Backoff backoff(*c.context().clock, 1000);
    while (flag.load(std::memory_order_acquire) != turn) backoff.pause();
    flag.store(turn + 1, std::memory_order_release);
  }
  return all_reduce(c, (c.context().clock->now() - start) / static_cast<double>(kTurns), Reduce::max);
}

/// Half a round trip of a short message between the first and the last rank, in seconds.
double message_latency(Communicator& c) {
  if (c.size() < 2) return 0;
  constexpr int kTurns = 200;
  const int last = c.size() - 1, me = c.rank();
  std::uint64_t word = 0;
  Transfer transfer(c.transport());
  barrier(c);
  const double start = c.context().clock->now();
  for (int turn = 0; (me == 0 || me == last) && turn < kTurns; ++turn) {
    if (me == (turn % 2 == 0 ? 0 : last)) transfer.send(last - me, 1, &word, sizeof word);
    else transfer.receive(last - me, 1, &word, sizeof word);
    c.wait(WaitStatus{.operation = "ping", .peer = last - me}, [&] { return transfer.done(); });
  }
  return all_reduce(c, (c.context().clock->now() - start) / kTurns, Reduce::max);
}

struct Contender {
  std::string name;
  float* data;
  std::function<void(std::int64_t step)> exchange;
  bool exact = true;
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
  barrier(c);
  const double start = c.context().clock->now();
  for (int i = 0; i < iterations; ++i) {
    std::fill_n(contender.data, n, static_cast<float>(c.rank() + i));
    contender.exchange(i);
    read += read_all(contender.data, n);
    const float expected = static_cast<float>(c.size() * i + c.size() * (c.size() - 1) / 2);
    const double bound = contender.exact ? 0 : 0.05 * expected;
    if (contender.name != "none" && !(std::abs(contender.data[n - 1] - expected) <= bound)) {
      fail(Code::internal, fmt::format("{}: {} instead of {}", contender.name, contender.data[n - 1], expected));
    }
  }
  const double mine = (c.context().clock->now() - start) / iterations;
  check(read >= 0, Code::internal, "a sum of positive numbers is negative");   // so `read` is needed
  return all_reduce(c, mine, Reduce::max);
}

CollectiveOptions options_of(const Settings& settings, const std::string& algorithm, const std::string& codec = "fp32") {
  CollectiveOptions options;
  options.algorithm = algorithm;
  options.chunk_bytes = settings.chunk;
  options.codec_name = codec;
  return options;
}

/// The least that a node must send and receive, over what the line carries in `seconds`.
double share_of_line(const Settings& settings, const Communicator& c, std::size_t bytes, double seconds) {
  const double nodes = c.nodes().nodes();
  return 2 * (nodes - 1) / nodes * static_cast<double>(bytes) * 8 / (settings.line_gbit * 1e9) / seconds;
}

void print(const Settings& settings, const Communicator& c, std::size_t bytes, const std::vector<Contender>& contenders,
           const std::vector<std::vector<double>>& seconds, const std::string& latencies) {
  fmt::print("{} KiB  ({})\n", bytes / 1024, latencies);
  for (std::size_t k = 1; k < seconds.size(); ++k) {
    std::vector<double> added, ratio;
    for (std::size_t r = 0; r < static_cast<std::size_t>(settings.rounds); ++r) {
      added.push_back(seconds[k][r] - seconds[0][r]);
      ratio.push_back((seconds[1][r] - seconds[0][r]) / added.back());
    }
    const auto [least, most] = std::ranges::minmax_element(added);
    fmt::print("    {:<25} {:>11.1f} µs  [{:.1f} – {:.1f}]  x{:.2f}", contenders[k].name, median(added) * 1e6, *least * 1e6,
               *most * 1e6, median(ratio));
    if (settings.line_gbit > 0) fmt::print("  {:.0f} % of the line", 100 * share_of_line(settings, c, bytes, median(added)));
    fmt::print("\n");
  }
  std::fflush(stdout);
}

bool is_in(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

struct Choice {
  std::string algorithm, codec;
};

/// What takes turns: algorithms by name, each with all codecs that it can serve here.
std::vector<Choice> choices(const Settings& settings, Communicator& c) {
  std::vector<std::string> names = Registry<CollectiveType>::instance().names();
  names.emplace_back("auto");
  std::vector<Choice> found;
  for (const std::string& name : names) {
    if (!settings.only.empty() && !is_in(settings.only, name)) continue;
    for (const auto& [codec, entry] : Registry<CodecType>::instance().entries()) {
      if (!is_in(settings.codecs, codec)) continue;
      CollectiveOptions options = options_of(settings, name, codec);
      Section defaults;
      options.codec = entry.value.make(defaults);
      if (name != "auto" && !why_not(Registry<CollectiveType>::instance().get(name), c, options).empty()) continue;
      found.push_back({name, codec});
    }
  }
  return found;
}

void run_size(Communicator& c, const Settings& settings, SharedMemory* memory, std::size_t bytes) {
  const std::size_t n = bytes / sizeof(float);
  std::vector<float> plain(n, 0.f);
  std::vector<Buffer> buffers;
  std::vector<std::unique_ptr<Collective>> collectives;
  std::vector<Contender> contenders{
      {"none", plain.data(), [](std::int64_t) {}},
      {"MPI, one call", plain.data(), [&](std::int64_t) { c.transport().library()->all_reduce(plain.data(), n); }}};
  for (const auto& [algorithm, codec] : choices(settings, c)) {
    Collective& collective = *collectives.emplace_back(make_collective(c, options_of(settings, algorithm, codec)));
    float* data = static_cast<float*>(buffers.emplace_back(collective.allocate(bytes)).memory.get());
    Work& work = collective.all_reduce({.data = data, .n = n});
    std::string name = algorithm == "auto" ? "auto: " + work.algorithm() : algorithm;
    if (codec != "fp32") name += ", " + codec;
    contenders.push_back({name, data, [&work](std::int64_t step) { work.start(step), work.wait(); },
                          collective.options().codec->exact()});
  }
  const int iterations = std::clamp(static_cast<int>((settings.line_gbit > 0 ? 4u << 20 : 16u << 20) / bytes), 1, 400);
  std::vector<std::vector<double>> seconds(contenders.size());
  double core = 1, message = 1;
  for (int round = 0; round <= settings.rounds; ++round) {   // the first round warms up
    if (memory != nullptr) core = std::min(core, core_latency(c, *memory));
    message = std::min(message, message_latency(c));
    for (std::size_t k = 0; k < contenders.size(); ++k) {
      const double time = measure(c, contenders[k], n, iterations);
      if (round > 0) seconds[k].push_back(time);
    }
  }
  const std::string latencies = fmt::format("message {:.1f} µs{}", message * 1e6,
                                            memory != nullptr ? fmt::format(", core to core {:.0f} ns", core * 1e9) : "");
  if (c.rank() == 0) print(settings, c, bytes, contenders, seconds, latencies);
}

/// Seconds that the ranks need to agree on an operation: an empty bucket has nothing else to do.
double agreement_time(Communicator& c, const Settings& settings) {
  const auto collective = make_collective(c, options_of(settings, "ring"));
  Work& work = collective->all_reduce({});
  constexpr int kTimes = 1000;
  barrier(c);
  const double start = c.context().clock->now();
  for (int i = 0; i < kTimes; ++i) {
    work.start(i);
    work.wait();
  }
  return all_reduce(c, (c.context().clock->now() - start) / kTimes, Reduce::max);
}

std::vector<int> numbers(const std::string& text) {
  std::vector<int> values;
  for (std::size_t at = 0; at < text.size(); at = text.find(',', at), at += at < text.size() ? 1 : 0) {
    values.push_back(std::atoi(text.c_str() + at));
  }
  return values;
}

Settings settings_of(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--rounds") settings.rounds = std::max(1, std::atoi(value.c_str()));
    else if (option == "--smallest") settings.smallest = std::strtoull(value.c_str(), nullptr, 10);
    else if (option == "--largest") settings.largest = std::strtoull(value.c_str(), nullptr, 10);
    else if (option == "--line-gbit") settings.line_gbit = std::strtod(value.c_str(), nullptr);
    else if (option == "--chunk") settings.chunk = std::strtoll(value.c_str(), nullptr, 10);
    else if (option == "--codecs") settings.codecs = value;
    else if (option == "--only") settings.only = value;
    else if (option == "--nodes") settings.nodes = numbers(value);
    else fail(Code::invalid_argument, "unknown option " + option + ": see the top of allreduce_benchmark.cpp");
  }
  return settings;
}

void pretend(const Settings& settings, Communicator& c) {
  if (settings.nodes.empty()) return;
  std::vector<int> labels;
  for (std::size_t node = 0; node < settings.nodes.size(); ++node) {
    labels.insert(labels.end(), static_cast<std::size_t>(settings.nodes[node]), static_cast<int>(node));
  }
  check(labels.size() == static_cast<std::size_t>(c.size()), Code::invalid_argument, "--nodes must name as many ranks as there are");
  c.force_nodes(NodeMap(labels));
}

void run(const Settings& settings, Communicator& c) {
  const auto memory = c.nodes().nodes() == 1 ? c.allocate_shared(64) : nullptr;
  pretend(settings, c);
  const double agreement = agreement_time(c, settings);
  if (c.rank() == 0) {
    fmt::print("{}, {}: microseconds added to writing and reading the bucket, medians of {} [least – most], times faster "
               "than one call of the library;\n{:.2f} µs to agree on an operation\n", c.nodes().text(),
               Environment::library_version(), settings.rounds, agreement * 1e6);
  }
  for (std::size_t bytes = settings.smallest; bytes <= settings.largest; bytes *= 4) run_size(c, settings, memory.get(), bytes);
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
