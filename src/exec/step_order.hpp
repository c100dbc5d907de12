#pragma once

#include <string>
#include <vector>

#include "exec/plan.hpp"

namespace cohort {

/// Does the node run a kernel on devices of that family? A view with a kernel of its own (an assignment) works on the memory; one
/// without only looks at it.
[[nodiscard]] bool runs_kernel(const PlanNode& node, const std::string& family);

/// The graph's nodes of the variables that a node reads, maybe through views; each once.
[[nodiscard]] std::vector<int> variables_read(const Plan& plan, const PlanNode& node);

/// In which order a step of this plan works on such devices.
[[nodiscard]] StepOrder order_of(const Plan& plan, const std::string& family);

}  // namespace cohort
