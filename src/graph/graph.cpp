#include "cohort/graph/graph.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/about.hpp"

namespace cohort {

const Signature& Value::signature() const {
  check(graph != nullptr, Code::invalid_argument, "the signature of an absent value");
  return graph->node(node).outputs.at(static_cast<std::size_t>(output));
}

std::string Value::name() const {
  return graph == nullptr ? "(absent)" : fmt::format("{}:{}", graph->node(node).name, output);
}

namespace {

/// An error for a value of more elements than can be counted, however small its unknown dimensions will be.
void require_countable(const NodeData& node, const Shape& shape) {
  Shape least;
  for (const std::int64_t size : shape) least.append(size == Shape::kUnknown ? 1 : size);
  about(node.op + " '" + node.name + "'", [&] { (void)least.elements(); });
}

}  // namespace

std::string Graph::unique_name(std::string_view base) {
  std::string name = prefix_ + std::string(base);
  while (by_name_.contains(name)) name = fmt::format("{}{}_{}", prefix_, base, ++name_counts_[prefix_ + std::string(base)]);
  return name;
}

Node Graph::add(std::string_view op, std::vector<Value> inputs, Attrs attrs, std::string_view name) {
  auto data = std::make_unique<NodeData>();
  data->op = op;
  data->definition = &Registry<Op>::instance().get(op);
  data->name = unique_name(name.empty() ? op : name);
  std::vector<Signature> signatures;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].graph != this) {
      fail(Code::invalid_argument, fmt::format("{} '{}': input {} is {}", op, data->name, i,
                                               inputs[i] ? "a value of another graph" : "absent"));
    }
    signatures.push_back(inputs[i].signature());
  }
  data->inputs = std::move(inputs);
  data->attrs = std::move(attrs);
  data->outputs = data->definition->infer(Inference(data->op, data->name, signatures, data->attrs));
  for (const Signature& output : data->outputs) require_countable(*data, output.shape);
  data->control = control_stack_;
  data->container = container_;
  // The innermost request wins; a function sees the node and may leave it to the next outer one by answering "".
  for (auto function = device_stack_.rbegin(); function != device_stack_.rend() && data->device.empty(); ++function) {
    data->device = (*function)(*data);
  }
  const int id = size();
  by_name_.emplace(data->name, id);
  nodes_.push_back(std::move(data));
  return {this, id};
}

Value Graph::placeholder(std::string_view name, DType dtype, const Shape& shape) {
  return add("Placeholder", {}, {{"dtype", dtype}, {"shape", shape}}, name);
}

Value Graph::constant(const Tensor& value, std::string_view name) {
  check(value.device().info().host_accessible && value.dense(), Code::invalid_argument, "a constant must be a dense host tensor");
  return add("Constant", {}, {{"value", value}}, name);
}

Value Graph::variable(std::string_view name, const Shape& shape, std::string_view init, double scale, bool trainable) {
  check(shape.known(), Code::invalid_argument, fmt::format("variable '{}{}' of the partly unknown shape {}", prefix_, name, shape.text()));
  if (const Value known = find(prefix_ + std::string(name))) {
    if (node(known.node).op != "Variable" || known.shape() != shape) {
      fail(Code::invalid_argument, fmt::format("'{}{}' exists as {} {}, asked for as a variable of shape {}", prefix_, name,
                                               node(known.node).op, known.signature().text(), shape.text()));
    }
    return known;
  }
  return add("Variable", {}, {{"shape", shape}, {"init", std::string(init)}, {"scale", scale}, {"trainable", trainable}}, name);
}

Scope Graph::device(std::string_view spec) {
  return device([text = std::string(spec)](const NodeData&) { return text; });
}

Scope Graph::device(DeviceFunction function) {
  device_stack_.push_back(std::move(function));
  return Scope([this] { device_stack_.pop_back(); });
}

Scope Graph::colocate(Value with) { return device(std::string_view(node(with.node).device)); }

Scope Graph::depends_on(const std::vector<Value>& values) {
  const std::size_t before = control_stack_.size();
  for (const Value& value : values) control_stack_.push_back(value.node);
  return Scope([this, before] { control_stack_.resize(before); });
}

Scope Graph::container(std::string_view name) {
  return Scope([this, before = std::exchange(container_, std::string(name))] { container_ = before; });
}

Scope Graph::name_scope(std::string_view name) {
  return Scope([this, before = std::exchange(prefix_, prefix_ + std::string(name) + "/")] { prefix_ = before; });
}

std::vector<Value> Graph::variables(bool trainable_only) const {
  std::vector<Value> result;
  for (int id = 0; id < size(); ++id) {
    const NodeData& data = node(id);
    if (data.op != "Variable" || (trainable_only && !data.attrs.get<bool>("trainable"))) continue;
    result.push_back({const_cast<Graph*>(this), id, 0});   // a Value names a node of a graph; it does not change it
  }
  return result;
}

Value Graph::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? Value{} : Value{const_cast<Graph*>(this), at->second, 0};
}

std::string Graph::text() const {
  std::string text;
  for (int id = 0; id < size(); ++id) {
    const NodeData& data = node(id);
    text += fmt::format("{} {} {} {}", id, data.op, data.name, data.attrs.text());
    for (const Value& input : data.inputs) text += fmt::format(" {}:{}", input.node, input.output);
    for (const int before : data.control) text += fmt::format(" ^{}", before);
    for (const Signature& output : data.outputs) text += " -> " + output.text();
    if (!data.device.empty()) text += " @" + data.device;
    text += '\n';
  }
  return text;
}

}  // namespace cohort
