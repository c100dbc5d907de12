#pragma once

#include <numeric>
#include <string>
#include <vector>

#include "cohort/comm/cost_model.hpp"

namespace cohort::testing {

/// Words "--name value"; what stands alone has an empty value.
struct Words {
  std::vector<std::pair<std::string, std::string>> all;
  [[nodiscard]] std::string one(const std::string& name, const std::string& otherwise) const {
    for (const auto& [key, value] : all) {
      if (key == name) return value;
    }
    return otherwise;
  }
  [[nodiscard]] std::vector<std::string> every(const std::string& name) const {
    std::vector<std::string> values;
    for (const auto& [key, value] : all) {
      if (key == name) values.push_back(value);
    }
    return values;
  }
};

/// A node for each rank, so that everything travels.
inline std::vector<int> apart(int ranks) {
  std::vector<int> labels(static_cast<std::size_t>(ranks));
  std::iota(labels.begin(), labels.end(), 0);
  return labels;
}

/// So that nothing is measured; experiments name their algorithm.
inline NetworkConstants some_network() {
  NetworkConstants n;
  n.within = {.latency = 1e-6, .seconds_per_byte = 1 / 10e9};
  n.between = {.latency = 5e-6, .seconds_per_byte = 1 / 12.5e9};
  n.sum_seconds_per_byte = 1 / 20e9;
  return n;
}

/// Each prints one line of JSON.
void run_training(const Words& words);
void run_gradient_errors(const Words& words);
void run_conservation(const Words& words);

}  // namespace cohort::testing
