// Whole training steps of every model, as `cohort train` runs them: samples per second with one rank, by threads of kernels and
// with or without a trace.
//
//   build/release/tests/benchmarks/step_benchmark --benchmark_filter=mlp --benchmark_repetitions=9
//       --benchmark_enable_random_interleaving=true --benchmark_report_aggregates_only=true
//
// The table goes to the error stream, the runs' own reports to the other: `> /dev/null` leaves the table. The time is the wall
// time per step of a run without its start; a repetition is one run.
#include <benchmark/benchmark.h>

#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/comm/thread_ranks.hpp"
#include "cohort/train/trainer.hpp"
#include "support/sections.hpp"
#include "support/temporary_folder.hpp"

namespace {

using namespace cohort;
using testing::numbers;
using testing::Options;

struct Case {
  std::string model;
  std::int64_t batch, steps;
  Options options;
};

const Options kImages = {{"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{8192}},
                         {"data.train.shape", numbers({28, 28, 1})}, {"optimizer.type", std::string("sgd")}, {"optimizer.momentum", 0.9}};
const Options kText = {{"data.train.reader", std::string("text")}, {"data.train.context", std::int64_t{128}},
                       {"data.train.stride", std::int64_t{1}}, {"optimizer.type", std::string("adamw")},
                       {"data.train.files", OptionList{{std::string("/usr/share/common-licenses/GPL-3"), "benchmark"}}}};

std::vector<Case> cases() {
  return {{"mlp", 128, 200, kImages}, {"lenet", 64, 200, kImages}, {"cnn", 64, 20, kImages}, {"resnet", 64, 10, kImages},
          {"autoencoder", 64, 50, kImages}, {"gpt", 16, 10, kText}, {"lstm", 16, 10, kText}};
}

void run(benchmark::State& state, const Case& what, std::int64_t threads, bool trace, bool brief) {
  const std::int64_t steps = brief ? 2 : what.steps;
  for (auto _ : state) {
    const testing::TemporaryFolder folder;
    const Options options = testing::with(
        what.options, {{"model.type", what.model},
                       {"data.batch", what.batch},
                       {"schedule.learning_rate", 0.001},
                       {"train.directory", folder.file("run")},
                       {"train.threads", threads},
                       {"train.epochs", std::int64_t{1000}},
                       {"train.max_steps", steps},
                       {"train.log_every", std::int64_t{1000}},
                       {"train.validate_every", std::int64_t{0}},
                       {"checkpoint.every_epochs", std::int64_t{0}},
                       {"trace.record", trace}});
    run_as_threads(1, [&](Communicator& communicator) {
      Section config = testing::section_of(options);
      state.SetIterationTime(train(communicator, config).seconds / static_cast<double>(steps));
    }, {.log = LogLevel::error});
  }
  state.counters["samples/s"] = benchmark::Counter(static_cast<double>(what.batch), benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace

int main(int argc, char** argv) {
  const bool brief = argc > 1 && std::string_view(argv[1]) == "--brief";      // a smoke run
  for (const Case& what : cases()) {
    for (const std::int64_t threads : {1, 2}) {
      for (const bool trace : {false, true}) {
        if (trace && threads > 1) continue;
        const std::string name = what.model + "/threads:" + std::to_string(threads) + (trace ? "/traced" : "");
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run(state, what, threads, trace, brief); })
            ->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);
      }
    }
  }
  int rest = brief ? argc - 1 : argc;
  char** words = brief ? argv + 1 : argv;
  benchmark::Initialize(&rest, words);
  if (benchmark::ReportUnrecognizedArguments(rest, words)) return 1;
  benchmark::ConsoleReporter table;
  table.SetOutputStream(&std::cerr);
  table.SetErrorStream(&std::cerr);
  benchmark::RunSpecifiedBenchmarks(&table);
  return 0;
}
