#include <fmt/core.h>

#include <fstream>

#include "comm/counting_transport.hpp"
#include "experiments/experiment.hpp"
#include "cohort/base/json.hpp"
#include "job/config.hpp"
#include "support/training.hpp"

namespace cohort::testing {
namespace {

/// All floats of a checkpoint's parameters, by name, one after the other.
void write_parameters(const std::filesystem::path& checkpoint, const std::string& to) {
  std::ofstream file(to, std::ios::binary);
  for (const auto& [name, values] : tensors_of(checkpoint)) {
    if (!name.starts_with("/parameters")) continue;
    file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  }
}

void print_result(const TrainResult& result, std::int64_t bytes) {
  std::string metrics;
  if (result.validation) {
    metrics = fmt::format(", \"validation_loss\": {}", json_number(result.validation->loss));
    for (const auto& [name, value] : result.validation->metrics) metrics += fmt::format(", {}: {}", json_text(name), json_number(value));
  }
  fmt::print("{{\"steps\": {}, \"skipped\": {}, \"seconds\": {}, \"bytes\": {}, \"directory\": {}, \"checkpoint\": {}{}}}\n", result.steps,
             result.skipped, json_number(result.seconds), bytes, json_text(result.directory.string()),
             json_text(result.checkpoint.string()), metrics);
}

}  // namespace

/// `bytes`: sent by all ranks together between start and end of `train`, counted at the transport.
void run_training(const Words& words) {
  const int ranks = std::stoi(words.one("--ranks", "1"));
  const std::string resume = words.one("--resume", ""), parameters = words.one("--parameters", "");
  const auto bytes = std::make_shared<std::atomic<std::int64_t>>(0);
  ThreadRanksOptions how{.timeout = 600, .log = LogLevel::error};
  if (words.one("--nodes", "apart") == "apart") how.nodes = apart(ranks);
  TrainResult result;
  run_as_threads(ranks, [&](Communicator& c) {
    Communicator counted = counting(c, bytes);
    Configuration configuration = load_configuration(words.one("--job", ""), words.every("--set"));
    const TrainResult mine = train(counted, configuration.root, resume);
    if (c.rank() == 0) result = mine;
  }, how);
  if (!parameters.empty()) write_parameters(result.checkpoint, parameters);
  print_result(result, bytes->load());
}

}  // namespace cohort::testing
