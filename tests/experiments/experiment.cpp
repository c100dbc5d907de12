// What the experiments (run.py) need to run in one process: training with thread ranks, the errors of exchanged gradients, and
// what error feedback conserves. Each prints one line of JSON on the output stream.
//
//   experiment train --ranks 8 --nodes apart --plugin FILE.so --set model.type=mlp --set data.global_batch=128 …
//   experiment errors --step 20 --largest 512
//   experiment conservation --plugin FILE.so --rounds 30
#include "experiments/experiment.hpp"

#include <fmt/core.h>

#include <exception>
#include <map>

#include "job/command_line.hpp"

namespace {

using cohort::testing::Words;

Words words_of(int argc, char** argv) {
  Words words;
  for (int i = 2; i < argc; ++i) {
    const std::string name = argv[i];
    const bool has_value = i + 1 < argc && !std::string_view(argv[i + 1]).starts_with("--");
    words.all.emplace_back(name, has_value ? argv[++i] : "");
  }
  return words;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::map<std::string, void (*)(const Words&)> modes = {{"train", cohort::testing::run_training},
                                                               {"errors", cohort::testing::run_gradient_errors},
                                                               {"conservation", cohort::testing::run_conservation}};
  const auto mode = modes.find(argc > 1 ? argv[1] : "");
  if (mode == modes.end()) {
    fmt::print(stderr, "usage: experiment train|errors|conservation …\n");
    return 2;
  }
  const Words words = words_of(argc, argv);
  for (const std::string& plugin : words.every("--plugin")) cohort::load_plugin(plugin);
  mode->second(words);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "experiment: {}\n", error.what());
  return 1;
}
