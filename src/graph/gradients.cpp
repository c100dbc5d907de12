#include "cohort/graph/gradients.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace cohort {
namespace {

/// `gradient` brought back to the shape that `input` had before it was broadcast.
Value summed_to(Value gradient, Value input) {
  if (gradient.shape() == input.shape() && input.shape().known()) return gradient;
  return input.graph->add("SumLike", {gradient, input});
}

class Reverse {
 public:
  Reverse(Value loss, std::span<const Value> wrt) : graph_(*loss.graph), last_(loss.node), dy_(static_cast<std::size_t>(loss.node) + 1) {
    // Only nodes that depend on one of `wrt` take part.
    wanted_.resize(static_cast<std::size_t>(last_) + 1, false);
    stop_ = wanted_;
    for (const Value& value : wrt) {
      if (value.node > last_) continue;
      wanted_[at(value.node)] = true;
      stop_[at(value.node)] = graph_.node(value.node).definition->source;
    }
    for (int id = 0; id <= last_; ++id) {
      const auto& inputs = graph_.node(id).inputs;
      if (std::any_of(inputs.begin(), inputs.end(), [&](const Value& x) { return wanted_[at(x.node)]; })) wanted_[at(id)] = true;
      dy_[at(id)].resize(graph_.node(id).outputs.size());
    }
  }

  void add(Value to, Value gradient) {
    Value& sum = dy_[at(to.node)][at(to.output)];
    sum = sum ? Value(graph_.add("Add", {sum, gradient})) : gradient;
  }

  void run() {
    for (int id = last_; id >= 0; --id) {
      const auto& dy = dy_[at(id)];
      if (!wanted_[at(id)] || stop_[at(id)] || std::none_of(dy.begin(), dy.end(), [](const Value& d) { return bool(d); })) continue;
      visit(id);
    }
  }

  [[nodiscard]] Value of(Value x) {
    if (x.node <= last_) {
      if (const Value dy = dy_[at(x.node)][at(x.output)]) return dy;
    }
    return graph_.add("ZerosLike", {x});
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }

  void visit(int id) {
    const NodeData& node = graph_.node(id);
    if (node.definition->source) return;   // a variable or placeholder that nobody asked about
    if (node.definition->gradient == nullptr) {
      fail(Code::invalid_argument,
           fmt::format("{} '{}' has no gradient, and the loss depends on a parameter through it", node.op, node.name));
    }
    std::vector<bool> wants;
    for (const Value& input : node.inputs) wants.push_back(wanted_[at(input.node)]);
    const Backward backward(graph_, id, dy_[at(id)], wants);
    const std::vector<Value> dx = node.definition->gradient(backward);
    check(dx.size() == node.inputs.size(), Code::internal, "the gradient of " + node.op + " does not give one value per input");
    for (std::size_t i = 0; i < dx.size(); ++i) {
      if (!dx[i] || !wants[i]) continue;
      const Value input = node.inputs[i];
      add(input, node.definition->broadcasts ? summed_to(dx[i], input) : dx[i]);
    }
  }

  Graph& graph_;
  int last_;
  std::vector<std::vector<Value>> dy_;    // by node and output: the sum so far
  std::vector<bool> wanted_, stop_;
};

}  // namespace

Value Backward::dy(std::size_t i) const {
  return dy_.at(i) ? dy_[i] : Value(graph.add("ZerosLike", {y(static_cast<int>(i))}));
}

std::vector<Value> no_gradient(const Backward& b) { return std::vector<Value>(b.inputs()); }

std::vector<Value> gradients(Value loss, std::span<const Value> wrt) {
  check(bool(loss), Code::invalid_argument, "gradients of an absent loss");
  if (loss.dtype() != DType::float32 || loss.shape().rank() != 0) {
    fail(Code::invalid_argument, fmt::format("gradients of '{}': the loss must be a float32 scalar, it is {}; take its mean",
                                             loss.name(), loss.signature().text()));
  }
  Reverse reverse(loss, wrt);
  reverse.add(loss, loss.graph->constant(1.f));
  reverse.run();
  std::vector<Value> result;
  for (const Value& x : wrt) result.push_back(reverse.of(x));
  return result;
}

}  // namespace cohort
