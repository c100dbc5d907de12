#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "cohort/comm/thread_ranks.hpp"
#include "cohort/train/trainer.hpp"
#include "hdf5/file.hpp"
#include "support/patience.hpp"
#include "support/sections.hpp"
#include "support/temporary_folder.hpp"

namespace cohort::testing {

/// Trains with thread ranks and gives rank 0's result. `nodes`: the machine that each rank pretends to be on.
inline TrainResult train_with(int ranks, const Options& options, const std::string& resume = {}, const std::vector<int>& nodes = {}) {
  TrainResult result;
  run_as_threads(ranks, [&](Communicator& communicator) {
    Section config = section_of(options);
    const TrainResult mine = train(communicator, config, resume);
    if (communicator.rank() == 0) result = mine;
  }, {.nodes = nodes, .timeout = kHung});
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

inline void expect_close(const std::filesystem::path& a, const std::filesystem::path& b, double relative) {
  const auto x = tensors_of(a), y = tensors_of(b);
  ASSERT_EQ(x.size(), y.size());
  ASSERT_FALSE(x.empty());
  for (const auto& [name, values] : x) {
    const auto& others = y.at(name);
    ASSERT_EQ(values.size(), others.size());
    double scale = 0, difference = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      scale = std::max(scale, std::fabs(static_cast<double>(values[i])));
      difference = std::max(difference, std::fabs(static_cast<double>(values[i]) - others[i]));
    }
    EXPECT_LE(difference, relative * scale) << name;
  }
}

inline void expect_same_bits(const std::filesystem::path& a, const std::filesystem::path& b) {
  const auto x = tensors_of(a), y = tensors_of(b);
  ASSERT_FALSE(x.empty());
  EXPECT_TRUE(x == y);
}

}  // namespace cohort::testing
