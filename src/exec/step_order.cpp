#include "exec/step_order.hpp"

#include <algorithm>

namespace cohort {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

bool is_view(const PlanNode& node) { return std::ranges::any_of(node.definition->reuse, &Reuse::view); }

}  // namespace

bool runs_kernel(const PlanNode& node, const std::string& family) {
  if (node.definition->source) return false;
  return !is_view(node) || Registry<KernelFactory>::instance().find(node.op + "@" + family) != nullptr;
}

std::vector<int> variables_read(const Plan& plan, const PlanNode& node) {
  std::vector<int> variables;
  for (PlanValue input : node.inputs) {
    while (is_view(plan.nodes[at(input.node)])) {
      const PlanNode& view = plan.nodes[at(input.node)];
      input = view.inputs[at(std::ranges::find_if(view.definition->reuse, &Reuse::view)->input)];
    }
    const PlanNode& root = plan.nodes[at(input.node)];
    if (root.op == "Variable" && std::ranges::find(variables, root.origin) == variables.end()) variables.push_back(root.origin);
  }
  return variables;
}

StepOrder order_of(const Plan& plan, const std::string& family) {
  StepOrder order;
  for (const PlanNode& node : plan.nodes) {
    if (!runs_kernel(node, family)) continue;
    const std::vector<int> variables = variables_read(plan, node);
    order.reads.insert(order.reads.end(), variables.begin(), variables.end());
  }
  std::vector<std::pair<int, std::size_t>> fetches;          // the node that computes it; -1: none, it is there at the start
  for (std::size_t f = 0; f < plan.fetches.size(); ++f) {
    int producer = plan.fetches[f].node;
    while (!runs_kernel(plan.nodes[at(producer)], family) && !plan.nodes[at(producer)].inputs.empty()) producer = plan.nodes[at(producer)].inputs[0].node;
    fetches.emplace_back(runs_kernel(plan.nodes[at(producer)], family) ? producer : -1, f);
  }
  std::ranges::sort(fetches);
  for (const auto& [node, fetch] : fetches) order.fetches.push_back(fetch);
  return order;
}

}  // namespace cohort
