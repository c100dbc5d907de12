#include "exec/passes.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>

#include "exec/executor.hpp"

namespace cohort {
namespace {

constexpr std::int64_t kFoldLimit = 1 << 18;   // elements: a folded constant is kept for the whole run

/// Removes nodes that no fetch needs any more.
void prune(Plan& plan) {
  std::vector<bool> needed(plan.nodes.size(), false);
  for (const PlanValue fetch : plan.fetches) needed[static_cast<std::size_t>(fetch.node)] = true;
  for (std::size_t i = plan.nodes.size(); i-- > 0;) {
    if (!needed[i]) continue;
    for (const PlanValue input : plan.nodes[i].inputs) needed[static_cast<std::size_t>(input.node)] = true;
    for (const int before : plan.nodes[i].control) needed[static_cast<std::size_t>(before)] = true;
  }
  std::vector<int> moved(plan.nodes.size(), -1);
  std::vector<PlanNode> kept;
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    if (!needed[i]) continue;
    PlanNode node = std::move(plan.nodes[i]);
    for (PlanValue& input : node.inputs) input.node = moved[static_cast<std::size_t>(input.node)];
    for (int& before : node.control) before = moved[static_cast<std::size_t>(before)];
    moved[i] = static_cast<int>(kept.size());
    kept.push_back(std::move(node));
  }
  plan.nodes = std::move(kept);
  for (PlanValue& fetch : plan.fetches) fetch.node = moved[static_cast<std::size_t>(fetch.node)];
  for (PlanValue& feed : plan.feeds) {
    if (feed.node >= 0) feed.node = moved[static_cast<std::size_t>(feed.node)];
  }
}

/// Computes, once and on the host, every pure node whose inputs are all constants.
void fold_constants(Plan& plan) {
  for (PlanNode& node : plan.nodes) {
    if (node.definition->stateful || node.definition->source || node.outputs.size() != 1 || !node.control.empty()) continue;
    if (node.outputs[0].shape.elements() > kFoldLimit) continue;
    const bool constant = std::all_of(node.inputs.begin(), node.inputs.end(), [&](PlanValue input) {
      return plan.nodes[static_cast<std::size_t>(input.node)].op == "Constant";
    });
    if (!constant || node.inputs.empty()) continue;
    std::vector<Tensor> in;
    for (const PlanValue input : node.inputs) in.push_back(plan.nodes[static_cast<std::size_t>(input.node)].attrs.get<Tensor>("value"));
    const Tensor value = run_on_host(node, in);
    node.attrs = {{"value", value}};
    node.op = "Constant";
    node.name += "(folded)";
    node.definition = &Registry<Op>::instance().get("Constant");
    node.inputs.clear();
  }
}

/// Of several pure nodes with the same op, attributes and inputs, the first serves all.
void merge_equal_nodes(Plan& plan) {
  std::map<std::string, int> first;
  std::vector<int> same(plan.nodes.size());
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    PlanNode& node = plan.nodes[i];
    for (PlanValue& input : node.inputs) input.node = same[static_cast<std::size_t>(input.node)];
    for (int& before : node.control) before = same[static_cast<std::size_t>(before)];
    same[i] = static_cast<int>(i);
    if (node.definition->stateful) continue;
    std::string key = node.op + node.attrs.text();
    for (const PlanValue input : node.inputs) key += fmt::format(" {}:{}", input.node, input.output);
    for (const int before : node.control) key += fmt::format(" ^{}", before);
    same[i] = first.emplace(std::move(key), static_cast<int>(i)).first->second;
  }
  for (PlanValue& fetch : plan.fetches) fetch.node = same[static_cast<std::size_t>(fetch.node)];
}

constexpr std::array kPasses = {
    Pass{"fold constants", fold_constants},
    Pass{"merge equal nodes", merge_equal_nodes},
    Pass{"prune", prune},
};

}  // namespace

std::span<const Pass> passes() { return kPasses; }

void run_passes(Plan& plan) {
  verify(plan, "make plan");
  for (const Pass& pass : passes()) {
    pass.run(plan);
    verify(plan, pass.name);
  }
}

}  // namespace cohort
