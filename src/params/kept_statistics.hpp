#pragma once

#include <vector>

#include "cohort/graph/graph.hpp"
#include "cohort/params/parameters.hpp"

namespace cohort {

/// A copy of what a forward pass writes (running statistics, and whatever else a model assigns in each step), so that a step
/// that turns out not to count leaves no trace of its samples. Allocates when it is made only. One thread.
class KeptStatistics {
 public:
  /// Of the variables without gradients that the graph writes. The parameters have been placed.
  KeptStatistics(const Graph& graph, const Parameters& parameters);

  /// The values as they are now are what `put_back` returns to, any number of times.
  void keep();
  /// Precondition: `keep`.
  void put_back() const;

 private:
  std::vector<Tensor> written_, kept_;
};

}  // namespace cohort
