#include "exec/precision.hpp"

#include <utility>

namespace cohort {
namespace {

PlanNode rounding_of(const PlanNode& user, std::size_t input, PlanValue value, const Signature& signature) {
  PlanNode node;
  node.origin = user.origin;
  node.op = "RoundToBfloat16";
  node.name = user.name + "/bf16_" + std::to_string(input);
  node.definition = &Registry<Op>::instance().get(node.op);
  node.inputs = {value};
  node.outputs = {signature};
  return node;
}

}  // namespace

void round_products(Plan& plan, bool native) {
  std::vector<PlanNode> nodes;
  std::vector<int> moved;
  for (PlanNode& node : plan.nodes) {
    for (PlanValue& input : node.inputs) input.node = moved[static_cast<std::size_t>(input.node)];
    for (int& before : node.control) before = moved[static_cast<std::size_t>(before)];
    const bool itself = native && node.definition->native_bf16;
    if (itself) node.attrs.set("native_bf16", true);
    for (const int i : node.definition->products) {
      if (itself) break;
      const auto at = static_cast<std::size_t>(i);
      if (at >= node.inputs.size()) continue;
      const PlanValue value = node.inputs[at];
      const Signature& signature = nodes[static_cast<std::size_t>(value.node)].outputs[static_cast<std::size_t>(value.output)];
      node.inputs[at] = {static_cast<int>(nodes.size()), 0};
      nodes.push_back(rounding_of(node, at, value, signature));
    }
    moved.push_back(static_cast<int>(nodes.size()));
    nodes.push_back(std::move(node));
  }
  plan.nodes = std::move(nodes);
  for (PlanValue& fetch : plan.fetches) fetch.node = moved[static_cast<std::size_t>(fetch.node)];
  for (PlanValue& feed : plan.feeds) {
    if (feed.node >= 0) feed.node = moved[static_cast<std::size_t>(feed.node)];
  }
}

}  // namespace cohort
