#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "cohort/train/trainer.hpp"
#include "hdf5/file.hpp"
#include "support/temporary_folder.hpp"

namespace cohort::testing {

/// Options by dotted name, as `--set` would give them.
using Options = std::map<std::string, decltype(OptionValue::value)>;

inline Section section_of(const Options& options) {
  Section root;
  for (const auto& [path, value] : options) {
    Section* section = &root;
    std::string_view rest = path;
    for (auto dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      section = &section->child(rest.substr(0, dot));
      rest.remove_prefix(dot + 1);
    }
    section->set(rest, {value, "test"});
  }
  return root;
}

/// Trains with thread ranks and gives rank 0's result.
inline TrainResult train_with(int ranks, const Options& options, const std::string& resume = {}) {
  TrainResult result;
  run_as_threads(ranks, [&](Communicator& communicator) {
    Section config = section_of(options);
    const TrainResult mine = train(communicator, config, resume);
    if (communicator.rank() == 0) result = mine;
  }, {.timeout = 30});
  return result;
}

/// All parameters, slots and statistics of a checkpoint, by name: read without the code that loads checkpoints.
inline std::map<std::string, std::vector<float>> tensors_of(const std::filesystem::path& checkpoint) {
  const auto file = hdf5::File::open(checkpoint);
  std::map<std::string, std::vector<float>> result;
  for (const char* group : {"parameters", "slots", "statistics"}) {
    if (!file.has(group)) continue;
    for (const std::string& name : file.datasets(group)) {
      const auto info = file.info(name);
      std::vector<float> values(static_cast<std::size_t>(info.shape.elements()));
      file.read(name, DType::float32, info.shape, values.data());
      result.emplace(name, std::move(values));
    }
  }
  return result;
}

}  // namespace cohort::testing
