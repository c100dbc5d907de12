#pragma once

#include <string>
#include <vector>

#include "cohort/exec/session.hpp"

namespace cohort {

struct PlanValue {
  int node = -1;
  int output = 0;
  friend bool operator==(const PlanValue&, const PlanValue&) = default;
};

/// A node of the graph as it will run: every dimension known, inputs by position in the plan.
struct PlanNode {
  int origin = -1;                       ///< the graph's node, -1 for one that a pass made
  std::string op{}, name{}, container{};
  const Op* definition = nullptr;
  Attrs attrs{};
  std::vector<PlanValue> inputs{};
  std::vector<int> control{};
  std::vector<Signature> outputs{};
};

/// What one step runs, in order. Passes rewrite it; inputs always come before their users.
struct Plan {
  std::vector<PlanNode> nodes;
  std::vector<PlanValue> fetches;
  std::vector<PlanValue> feeds;          ///< {-1, 0} for a feed that no fetch needs

  [[nodiscard]] const Signature& signature(PlanValue v) const {
    return nodes[static_cast<std::size_t>(v.node)].outputs[static_cast<std::size_t>(v.output)];
  }
};

/// The nodes that `fetches` need, with all shapes inferred again from the feeds' shapes. Errors: a needed placeholder that is
/// not fed, a feed of the wrong shape.
[[nodiscard]] Plan make_plan(const Graph& graph, std::span<const Value> fetches, const FeedShapes& feeds);

/// Shapes of `node`'s outputs for the plan's inputs.
[[nodiscard]] std::vector<Signature> infer_outputs(const Plan& plan, const PlanNode& node);

/// Throws Error internal if the plan has lost a property that every pass must keep.
void verify(const Plan& plan, std::string_view after);

}  // namespace cohort
