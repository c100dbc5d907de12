#pragma once

#include <memory>
#include <vector>

#include "cohort/cluster/cluster_spec.hpp"
#include "cohort/exchange/options.hpp"
#include "cohort/params/parameter_layout.hpp"
#include "tasks/wire_layout.hpp"

namespace cohort {

/// Who is what, what each parameter task keeps, and how it travels: the same on all ranks.
struct TaskLayout {
  TaskLayout(const ParameterLayout& layout, const ClusterOptions& options, const ExchangeOptions& exchange, int ranks);

  ClusterSpec cluster;
  std::vector<int> tasks, workers;                    ///< their ranks
  std::vector<Shard> shards;                          ///< by task, as the following
  std::vector<WireLayout> dense, coded, values;       ///< gradients in float32 and in exchange.codec; parameters
  bool lossy = false;                                 ///< exchange.codec is not exact
  bool feeds_back = false;                            ///< workers keep what it loses
  std::int64_t dense_steps = 0;

 private:
  std::shared_ptr<const Codec> plain_, codec_, pull_, small_;
};

}  // namespace cohort
