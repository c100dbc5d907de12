// Error feedback conserves: Σ ranks (gradient + residual) = sum + Σ ranks residual afterwards, in every round of every collective.
// What many rounds have lost together is then one residual, however many they are.
#include <fmt/core.h>

#include <cmath>
#include <mutex>

#include "cohort/base/random.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "experiments/experiment.hpp"

namespace cohort::testing {
namespace {

struct Outcome {
  double invariant = 0;      // largest relative residual of the invariant: |left - right| / |left|, norms over all elements
  double once = 0;           // relative error of the first round's sum
  double cumulative = 0;     // of the sum over all rounds
};

double norm_of(const std::vector<double>& x) {
  double sum = 0;
  for (const double each : x) sum += each * each;
  return std::sqrt(sum);
}

/// A direction that all ranks and rounds share, as gradients do, and as much noise.
void fill(std::vector<float>& g, std::uint64_t seed, int rank, int round) {
  for (std::size_t i = 0; i < g.size(); ++i) {
    g[i] = random_normal(seed, 0, i) + random_normal(seed, static_cast<std::uint64_t>(1 + rank + 1000 * round), i);
  }
}

/// Sums over the ranks of a round, in double.
struct Sums {
  std::mutex mutex;
  std::vector<double> gradient, left, right;
  void add(const std::vector<float>& g, const std::vector<float>& before, const std::vector<float>& after) {
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < g.size(); ++i) {
      gradient[i] += static_cast<double>(g[i]);
      left[i] += static_cast<double>(g[i]) + static_cast<double>(before[i]);
      right[i] += static_cast<double>(after[i]);
    }
  }
  void clear(std::size_t n) {
    for (auto* each : {&gradient, &left, &right}) each->assign(n, 0.0);
  }
};

std::vector<int> nodes_for(const std::string& algorithm, int ranks) {
  std::vector<int> nodes = apart(ranks);
  if (algorithm == "hierarchical") for (int& node : nodes) node /= 2;
  return nodes;
}

Outcome measure(const std::string& algorithm, const std::string& codec, int ranks, int rounds, std::uint64_t seed) {
  const std::size_t n = static_cast<std::size_t>(std::max(ranks, 8)) * kBlockUnit + 77;
  Outcome result;
  Sums sums;
  sums.clear(n);
  std::vector<double> wanted(n, 0), given(n, 0), difference(n);           // over all rounds
  run_as_threads(ranks, [&](Communicator& c) {
    CollectiveOptions options;
    options.algorithm = algorithm;
    options.codec_name = codec;
    options.network = some_network();
    const auto collective = make_collective(c, options);
    std::vector<float> data(n), residual(n, 0.f), gradient, before;
    Work& work = collective->all_reduce({.data = data.data(), .n = n, .residual = residual.data()});
    for (int round = 0; round < rounds; ++round) {
      fill(data, seed, c.rank(), round);
      gradient = data;
      before = residual;
      work.start(round);
      work.wait();
      sums.add(gradient, before, residual);
      barrier(c);
      if (c.rank() == 0) {
        for (std::size_t i = 0; i < n; ++i) difference[i] = sums.left[i] - static_cast<double>(data[i]) - sums.right[i];
        result.invariant = std::max(result.invariant, norm_of(difference) / norm_of(sums.left));
        for (std::size_t i = 0; i < n; ++i) {
          wanted[i] += sums.gradient[i];
          given[i] += static_cast<double>(data[i]);
          difference[i] = given[i] - wanted[i];
        }
        result.cumulative = norm_of(difference) / norm_of(wanted);
        if (round == 0) result.once = result.cumulative;
        sums.clear(n);
      }
      barrier(c);
    }
  }, {.nodes = nodes_for(algorithm, ranks), .log = LogLevel::error});
  return result;
}

}  // namespace

void run_conservation(const Words& words) {
  const int rounds = std::stoi(words.one("--rounds", "30"));
  const auto seed = static_cast<std::uint64_t>(std::stoll(words.one("--seed", "1")));
  std::string rows;
  for (const std::string& algorithm : words.every("--algorithm")) {
    for (const std::string& codec : words.every("--codec")) {
      for (const std::string& ranks : words.every("--ranks")) {
        const Outcome o = measure(algorithm, codec, std::stoi(ranks), rounds, seed);
        rows += fmt::format("{}{{\"algorithm\": \"{}\", \"codec\": \"{}\", \"ranks\": {}, \"invariant\": {:.3g}, \"once\": {:.4g}, \"cumulative\": {:.4g}}}",
                            rows.empty() ? "" : ", ", algorithm, codec, ranks, o.invariant, o.once, o.cumulative);
      }
    }
  }
  fmt::print("{{\"rows\": [{}]}}\n", rows);
}

}  // namespace cohort::testing
