#include "cohort/params/parameters.hpp"

#include <algorithm>
#include <utility>

namespace cohort {
namespace {

/// This rank's part of a parameter's values or of one of its slots, without what pads rows.
class ShardPiece {
 public:
  ShardPiece(const Shard& shard, const FlatArray& array, const Parameter& parameter)
      : parameter_(parameter), mine_(shard.part_of({parameter.offset, parameter.n})) {
    if (mine_.n > 0) flat_ = array.at(mine_.begin);
    begin_ = dense_index(mine_.begin);
    n_ = std::max<std::int64_t>(std::min(dense_index(mine_.end()), parameter.shape.elements()) - begin_, 0);
  }
  [[nodiscard]] std::int64_t begin() const noexcept { return begin_; }     ///< in row-major order of the parameter

  [[nodiscard]] Tensor copy() const {
    const Tensor dense(host(), DType::float32, {n_});
    for (std::int64_t i = 0; i < n_; ++i) dense.data<float>()[i] = element(i);
    return dense;
  }
  void set(const Tensor& dense) const {
    for (std::int64_t i = 0; i < n_; ++i) element(i) = dense.data<float>()[i];
  }

 private:
  [[nodiscard]] std::int64_t dense_index(std::int64_t at) const {
    const std::int64_t columns = parameter_.shape.columns(), within = at - parameter_.offset;
    return within / parameter_.ld * columns + std::min(within % parameter_.ld, columns);
  }
  [[nodiscard]] float& element(std::int64_t i) const {
    const std::int64_t columns = parameter_.shape.columns();
    return flat_[parameter_.offset + (begin_ + i) / columns * parameter_.ld + (begin_ + i) % columns - mine_.begin];
  }

  const Parameter& parameter_;
  FlatRange mine_;
  float* flat_ = nullptr;
  std::int64_t begin_ = 0, n_ = 0;
};

/// The state in its order: `flat(name, values or a slot of all parameters, parameter)`, and `whole(name, tensor)` for what no
/// gradient changes.
template <class Flat, class Whole>
void for_each_state(const Parameters& all, Flat flat, Whole whole) {
  const auto trained = all.layout().trained();
  for (const Parameter& parameter : trained) flat("parameters/" + parameter.name, all.values(), parameter);
  for (const Parameters::Other& other : all.others()) whole(other.state_name(), other.value);
  for (const Parameters::Slot& slot : all.slots()) {
    for (const Parameter& parameter : trained) flat("slots/" + slot.name + "/" + parameter.name, slot.values, parameter);
  }
}

bool in_pieces(const Shard* shard) { return shard != nullptr && !shard->alone(); }

}  // namespace

Parameters::Parameters(Session& session, ParameterLayout layout, std::span<const std::string_view> slots) : layout_(std::move(layout)) {
  const Graph& graph = session.graph();
  for (const std::string_view slot : slots) slots_.push_back({.name = std::string(slot)});
  for (const Value& variable : layout_.frozen()) others_.push_back({graph.node(variable.node).name, session.variable(variable), false});
  for (const Value& variable : graph.variables()) {
    const NodeData& node = graph.node(variable.node);
    if (!node.attrs.get<bool>("trainable")) others_.push_back({node.name, session.variable(variable), true});
  }
}

void Parameters::place(Session& session, const FlatArray::Memory& memory) {
  place_values(session, memory);
  for (Slot& slot : slots_) slot.values = FlatArray(session.device(), memory, layout_.flat_size());
}

void Parameters::place(Session& session, const FlatArray::Memory& values, Shard shard) {
  place_values(session, values);
  place_slots(session.device(), std::move(shard));
}

void Parameters::place_values_alone(Session& session) {
  slots_.clear();
  place_values(session, {});
}

void Parameters::keep(Session& session, Shard shard) {
  place_slots(host(), std::move(shard));
  values_ = FlatArray(host(), *shard_);
  const auto copy_of = [](const Tensor& value) { return Tensor::of(value.shape(), value.to_vector<float>()); };
  for (const Parameter& parameter : layout_.trained()) values_.set(parameter, copy_of(session.variable(parameter.variable)));
  for (Other& other : others_) other.value = copy_of(other.value);
}

void Parameters::place_values(Session& session, const FlatArray::Memory& memory) {
  values_ = FlatArray(session.device(), memory, layout_.flat_size());
  for (const Parameter& parameter : layout_.trained()) {
    const Tensor value = values_.view(parameter);
    if (values_.mine()) value.copy_from(session.variable(parameter.variable));
    session.bind(parameter.variable, value);
  }
}

void Parameters::place_slots(Device& device, Shard shard) {
  check(device.info().host_accessible && device.info().kernels == "CPU", Code::failed_precondition,
        "parameters in parts need a device whose memory the host can reach, " + device.info().name() + " is none");
  shard_ = std::move(shard);
  for (Slot& slot : slots_) slot.values = FlatArray(device, *shard_);
}

void Parameters::place_window(Session& session, Shard shard, const std::function<Tensor(std::size_t)>& window) {
  place_slots(session.device(), std::move(shard));
  values_ = FlatArray(session.device(), *shard_);
  for (std::size_t p = 0; p < layout_.trained().size(); ++p) {
    const Parameter& parameter = layout_.trained()[p];
    windows_.push_back(window(p));
    values_.set(parameter, session.variable(parameter.variable));   // one after the other: only one is here whole at a time
    session.bind(parameter.variable, windows_.back());
  }
}

Tensor Parameters::value(std::size_t parameter) const {
  return values_.whole() ? values_.view(layout_.trained()[parameter]) : windows_[parameter];
}

std::int64_t Parameters::slot_bytes() const noexcept {
  std::int64_t bytes = 0;
  for (const Slot& slot : slots_) bytes += slot.values.bytes();
  return bytes;
}

void Parameters::for_each_start_value(const std::function<void(const Tensor&, bool mine)>& visit) const {
  // In parts they are initial values, the same function of seed and name everywhere.
  for (std::size_t p = 0; p < layout_.trained().size() && values_.whole(); ++p) visit(value(p), values_.mine());
  for (const Other& other : others_) visit(other.value, true);
}

void Parameters::save(StateWriter& writer) const {
  for_each_state(
      *this,
      [&](const std::string& name, const FlatArray& array, const Parameter& parameter) {
        if (!in_pieces(shard())) return writer.tensor(name, array.view(parameter));
        const ShardPiece piece(*shard_, array, parameter);
        writer.piece(name, parameter.shape, piece.begin(), piece.copy());
      },
      [&](const std::string& name, const Tensor& value) { writer.tensor(name, value); });
}

void Parameters::load(StateReader& reader) {
  for_each_state(
      *this,
      [&](const std::string& name, const FlatArray& array, const Parameter& parameter) {
        if (!in_pieces(shard())) return reader.tensor(name, array.mine() ? array.view(parameter) : Tensor::zeros(parameter.shape));
        const ShardPiece piece(*shard_, array, parameter);
        const Tensor dense = piece.copy();
        reader.piece(name, parameter.shape, piece.begin(), dense);
        piece.set(dense);
      },
      [&](const std::string& name, const Tensor& value) { reader.tensor(name, value); });
}

}  // namespace cohort
