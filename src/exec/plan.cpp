#include "exec/plan.hpp"

#include <fmt/core.h>

#include <map>

#include "base/about.hpp"

namespace cohort {
namespace {

/// Marks every node that the fetches need, through inputs and control edges.
std::vector<bool> needed_nodes(const Graph& graph, std::span<const Value> fetches) {
  std::vector<bool> needed(static_cast<std::size_t>(graph.size()), false);
  for (const Value& fetch : fetches) {
    check(fetch.graph == &graph, Code::invalid_argument, fetch ? "a fetch of another graph" : "an absent fetch");
    needed[static_cast<std::size_t>(fetch.node)] = true;
  }
  for (int id = graph.size() - 1; id >= 0; --id) {
    if (!needed[static_cast<std::size_t>(id)]) continue;
    for (const Value& input : graph.node(id).inputs) needed[static_cast<std::size_t>(input.node)] = true;
    for (const int before : graph.node(id).control) needed[static_cast<std::size_t>(before)] = true;
  }
  return needed;
}

}  // namespace

std::vector<Signature> infer_outputs(const Plan& plan, const PlanNode& node) {
  std::vector<Signature> in;
  for (const PlanValue input : node.inputs) in.push_back(plan.signature(input));
  return node.definition->infer(Inference(node.op, node.name, in, node.attrs));
}

Plan make_plan(const Graph& graph, std::span<const Value> fetches, const FeedShapes& feeds) {
  Plan plan;
  std::map<int, std::size_t> fed;   // placeholder node -> position in feeds
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    const auto& [value, shape] = feeds[i];
    check(value.graph == &graph && graph.node(value.node).op == "Placeholder", Code::invalid_argument,
          fmt::format("feed {}: '{}' is not a placeholder of this graph", i, value.name()));
    if (!compatible(value.shape(), shape)) {
      fail(Code::invalid_argument, fmt::format("feed of '{}': shape {} does not fit {}", value.name(), shape.text(), value.shape().text()));
    }
    if (!fed.emplace(value.node, i).second) fail(Code::invalid_argument, fmt::format("'{}' is fed twice", value.name()));
  }
  plan.feeds.resize(feeds.size());
  const std::vector<bool> needed = needed_nodes(graph, fetches);
  std::vector<int> position(static_cast<std::size_t>(graph.size()), -1);
  for (int id = 0; id < graph.size(); ++id) {
    if (!needed[static_cast<std::size_t>(id)]) continue;
    const NodeData& data = graph.node(id);
    PlanNode node{.origin = id, .op = data.op, .name = data.name, .container = data.container, .definition = data.definition,
                  .attrs = data.attrs, .inputs = {}, .control = {}, .outputs = {}};
    for (const Value& input : data.inputs) node.inputs.push_back({position[static_cast<std::size_t>(input.node)], input.output});
    for (const int before : data.control) node.control.push_back(position[static_cast<std::size_t>(before)]);
    const int at = static_cast<int>(plan.nodes.size());
    if (data.op == "Placeholder") {
      const auto feed = fed.find(id);
      if (feed == fed.end()) fail(Code::invalid_argument, fmt::format("placeholder '{}' is needed and not fed", data.name));
      node.outputs = {{data.outputs[0].dtype, feeds[feed->second].second}};
      plan.feeds[feed->second] = {at, 0};
    } else {
      node.outputs = infer_outputs(plan, node);
    }
    for (const Signature& output : node.outputs) {
      if (output.shape.known()) about(node.op + " '" + node.name + "'", [&] { (void)output.shape.elements(); });
      else fail(Code::internal, fmt::format("{} '{}' leaves the shape {} open", node.op, node.name, output.text()));
    }
    position[static_cast<std::size_t>(id)] = at;
    plan.nodes.push_back(std::move(node));
  }
  for (const Value& fetch : fetches) plan.fetches.push_back({position[static_cast<std::size_t>(fetch.node)], fetch.output});
  return plan;
}

void verify(const Plan& plan, std::string_view after) {
  const auto broken = [&](const std::string& what) { fail(Code::internal, fmt::format("plan after pass '{}': {}", after, what)); };
  const auto exists = [&](PlanValue v, int before) {
    return v.node >= 0 && v.node < before &&
           static_cast<std::size_t>(v.output) < plan.nodes[static_cast<std::size_t>(v.node)].outputs.size();
  };
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
    const PlanNode& node = plan.nodes[i];
    for (const PlanValue input : node.inputs) {
      if (!exists(input, static_cast<int>(i))) broken(node.name + " has an input that does not come before it");
    }
    for (const int before : node.control) {
      if (before < 0 || before >= static_cast<int>(i)) broken(node.name + " has a control input that does not come before it");
    }
    if (node.op != "Placeholder" && infer_outputs(plan, node) != node.outputs) broken(node.name + " has other shapes than its op infers");
  }
  for (const PlanValue fetch : plan.fetches) {
    if (!exists(fetch, static_cast<int>(plan.nodes.size()))) broken("a fetch is lost");
  }
}

}  // namespace cohort
