#include "cohort/train/parameters.hpp"

#include <algorithm>

namespace cohort {

Parameters::Parameters(Session& session, std::span<const std::string_view> slots, const Grouping& grouping, Memory memory)
    : memory_(std::move(memory)), slot_names_(slots.begin(), slots.end()) {
  std::vector<Value> trainable = session.graph().variables(true);
  std::reverse(trainable.begin(), trainable.end());
  std::vector<std::string> names;
  std::vector<Shape> shapes;
  for (const Value& variable : trainable) {
    names.push_back(session.graph().node(variable.node).name);
    shapes.push_back(variable.shape());
  }
  const std::vector<ParameterGroup> groups = grouping(names, shapes);
  for (std::size_t v = 0; v < trainable.size(); ++v) {
    if (groups[v].frozen) {
      others_.push_back({names[v], session.variable(trainable[v]), false});
      continue;
    }
    // Only matrices are padded: they are multiplied; whoever else reads a variable wants it dense.
    const std::int64_t ld = shapes[v].rank() == 2 ? padded_ld(shapes[v]) : shapes[v].columns(), n = shapes[v].rows() * ld;
    trained_.push_back({names[v], trainable[v], shapes[v], ld, flat_size_, n, groups[v]});
    elements_ += shapes[v].elements();
    flat_size_ += (n + kUnit - 1) / kUnit * kUnit;
  }
  for (const Value& variable : session.graph().variables()) {
    const NodeData& node = session.graph().node(variable.node);
    if (!node.attrs.get<bool>("trainable")) others_.push_back({node.name, session.variable(variable), true});
  }
  values_ = zeroed(session.device(), flat_size_);
  for (std::size_t s = 0; s < slot_names_.size(); ++s) slots_.push_back(zeroed(session.device(), flat_size_));
  for (std::size_t p = 0; p < trained_.size(); ++p) {
    if (memory_.mine) value(p).copy_from(session.variable(trained_[p].variable));
    session.bind(trained_[p].variable, value(p));
  }
}

Tensor Parameters::zeroed(Device& device, std::int64_t n) const {
  if (memory_.allocate) {
    const Buffer buffer = memory_.allocate(static_cast<std::size_t>(n) * sizeof(float));
    return {device, DType::float32, {n}, buffer.memory.get(), buffer.memory};
  }
  Tensor result(device, DType::float32, {n});
  result.copy_from(Tensor::zeros({n}));
  return result;
}

Tensor Parameters::view(const Tensor& flat, const Parameter& parameter) const {
  return {flat.device(), DType::float32, parameter.shape, flat.data<float>() + parameter.offset, flat.owner(), parameter.ld};
}

void Parameters::for_each_start_value(const std::function<void(const Tensor&, bool mine)>& visit) const {
  for (std::size_t p = 0; p < trained_.size(); ++p) visit(value(p), memory_.mine);
  for (const Other& other : others_) visit(other.value, true);
}

void Parameters::visit(StateVisitor& visitor) {
  const auto show = [&](const std::string& name, const Tensor& tensor) {
    if (memory_.mine) visitor.tensor(name, tensor);
    else visitor.tensor(name, Tensor::zeros(tensor.shape()));
  };
  for (std::size_t p = 0; p < trained_.size(); ++p) show("parameters/" + trained_[p].name, value(p));
  for (const Other& other : others_) visitor.tensor((other.statistic ? "statistics/" : "parameters/") + other.name, other.value);
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    for (const Parameter& parameter : trained_) show("slots/" + slot_names_[s] + "/" + parameter.name, view(slots_[s], parameter));
  }
}

}  // namespace cohort
