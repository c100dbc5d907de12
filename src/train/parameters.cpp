#include "cohort/train/parameters.hpp"

#include <algorithm>

namespace cohort {
namespace {

Tensor zeroed(Device& device, std::int64_t n) {
  Tensor result(device, DType::float32, {n});
  result.copy_from(Tensor::zeros({n}));
  return result;
}

}  // namespace

Parameters::Parameters(Session& session, std::span<const std::string_view> slots, const Grouping& grouping)
    : slot_names_(slots.begin(), slots.end()) {
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
    value(p).copy_from(session.variable(trained_[p].variable));
    session.bind(trained_[p].variable, value(p));
  }
}

Tensor Parameters::view(const Tensor& flat, const Parameter& parameter) const {
  return {flat.device(), DType::float32, parameter.shape, flat.data<float>() + parameter.offset, flat.owner(), parameter.ld};
}

void Parameters::for_each_start_value(const std::function<void(const std::string&, const Tensor&)>& visit) const {
  for (std::size_t p = 0; p < trained_.size(); ++p) visit(trained_[p].name, value(p));
  for (const Other& other : others_) visit(other.name, other.value);
}

void Parameters::visit(StateVisitor& visitor) {
  for (std::size_t p = 0; p < trained_.size(); ++p) visitor.tensor("parameters/" + trained_[p].name, value(p));
  for (const Other& other : others_) visitor.tensor((other.statistic ? "statistics/" : "parameters/") + other.name, other.value);
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    for (const Parameter& parameter : trained_) visitor.tensor("slots/" + slot_names_[s] + "/" + parameter.name, view(slots_[s], parameter));
  }
}

}  // namespace cohort
