#pragma once

#include <string>
#include <vector>

#include "cohort/params/parameter_layout.hpp"

namespace cohort {

/// Which parameter task keeps what. "round_robin": one parameter after the other in the order of creation; "greedy": each to the
/// task that has the fewest bytes so far, the first of several (TensorFlow's replica_device_setter and
/// GreedyLoadBalancingStrategy); "flat": equal blocks of the flat space, which may cut parameters.
[[nodiscard]] std::vector<Shard> deal_out(const ParameterLayout& layout, const std::string& strategy, int tasks);

/// A line per task, for people.
[[nodiscard]] std::string blocks_text(const ParameterLayout& layout, const std::vector<Shard>& shards);

}  // namespace cohort
