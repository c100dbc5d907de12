// Error feedback conserves: Σ ranks (gradient + residual) = sum + Σ ranks residual afterwards, in every round of every collective.
// What many rounds have lost together is then one residual, however many they are.
#include <fmt/core.h>

#include <cmath>
#include <mutex>

#include "cohort/base/random.hpp"
#include "cohort/comm/collective.hpp"
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

Outcome measure(const std::string& algorithm, const std::string& codec, int ranks, int rounds, std::uint64_t seed) {
  const std::size_t n = static_cast<std::size_t>(std::max(ranks, 8)) * kBlockUnit + 77;
  Outcome result;
  run_as_threads(ranks, [&](Communicator& c) {
    CollectiveOptions options;
    options.algorithm = algorithm;
    options.codec_name = codec;
    options.network = some_network();
    const auto collective = make_collective(c, options);
    std::vector<float> data(n), residual(n, 0.f);
    Work& work = collective->all_reduce({.data = data.data(), .n = n, .residual = residual.data()});
    std::vector<double> wanted(n, 0), given(n, 0);           // over all rounds
    for (int round = 0; round < rounds; ++round) {
      fill(data, seed, c.rank(), round);
      std::vector<double> gradient(data.begin(), data.end()), left(gradient), difference(n);
      for (std::size_t i = 0; i < n; ++i) left[i] += static_cast<double>(residual[i]);
      work.start(round);
      work.wait();
      std::vector<double> after(residual.begin(), residual.end());
      for (auto* x : {&gradient, &left, &after}) c.all_reduce(*x, Reduce::sum);
      for (std::size_t i = 0; i < n; ++i) {
        wanted[i] += gradient[i];
        given[i] += static_cast<double>(data[i]);
        difference[i] = left[i] - static_cast<double>(data[i]) - after[i];
      }
      if (c.rank() != 0) continue;
      result.invariant = std::max(result.invariant, norm_of(difference) / norm_of(left));
      for (std::size_t i = 0; i < n; ++i) difference[i] = given[i] - wanted[i];
      result.cumulative = norm_of(difference) / norm_of(wanted);
      if (round == 0) result.once = result.cumulative;
    }
  }, {.nodes = apart(ranks), .log = LogLevel::error});
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
