#include "cohort/params/parameters.hpp"

#include <algorithm>
#include <string>

#include "base/about.hpp"

namespace cohort {
namespace {

std::string state_name(const Parameters::Other& other) { return (other.statistic ? "statistics/" : "parameters/") + other.name; }

}  // namespace

Parameters::Parameters(Session& session, std::span<const std::string_view> slots, const Grouping& grouping,
                       const std::function<bool(const Shape&)>& is_small)
    : slot_names_(slots.begin(), slots.end()) {
  std::vector<Value> trainable = session.graph().variables(true);
  std::reverse(trainable.begin(), trainable.end());
  const auto large = [&](const Value& variable) { return !is_small || !is_small(variable.shape()); };
  std::ranges::stable_partition(trainable, large);
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
    if (large(trainable[v])) first_small_ = trained_.size();
  }
  for (const Value& variable : session.graph().variables()) {
    const NodeData& node = session.graph().node(variable.node);
    if (!node.attrs.get<bool>("trainable")) others_.push_back({node.name, session.variable(variable), true});
  }
}

void Parameters::place(Session& session, Memory memory) {
  memory_ = std::move(memory);
  place_values(session);
  for (std::size_t s = 0; s < slot_names_.size(); ++s) slots_.push_back(zeroed(session.device(), flat_size_));
}

void Parameters::place(Session& session, Memory values, Shard shard) {
  memory_ = std::move(values);
  place_values(session);
  place_slots(session.device(), std::move(shard));
}

void Parameters::place_values_alone(Session& session) {
  slot_names_.clear();
  place(session, {});
}

void Parameters::keep(Session& session, Shard shard) {
  place_slots(host(), std::move(shard));
  windowed_ = true;
  values_ = zeroed(host(), shard_->size());
  const auto copy_of = [](const Tensor& value) { return Tensor::of(value.shape(), value.to_vector<float>()); };
  for (const Parameter& parameter : trained_) set_piece(parameter, copy_of(session.variable(parameter.variable)));
  for (Other& other : others_) other.value = copy_of(other.value);
}

Tensor Parameters::move_values() {
  Tensor moved(host(), DType::float32, values_.shape());
  moved.copy_from(values_);
  std::swap(moved, values_);
  return moved;
}

void Parameters::place_values(Session& session) {
  values_ = zeroed(session.device(), flat_size_);
  for (std::size_t p = 0; p < trained_.size(); ++p) {
    if (memory_.mine) value(p).copy_from(session.variable(trained_[p].variable));
    session.bind(trained_[p].variable, value(p));
  }
}

void Parameters::place_slots(Device& device, Shard shard) {
  check(device.info().host_accessible && device.info().kernels == "CPU", Code::failed_precondition,
        "parameters in parts need a device whose memory the host can reach, " + device.info().name() + " is none");
  memory_.allocate = {};       // whatever follows is this rank's alone
  shard_ = std::move(shard);
  for (std::size_t s = 0; s < slot_names_.size(); ++s) slots_.push_back(zeroed(device, shard_->size()));
}

void Parameters::place_window(Session& session, Shard shard, const std::function<Tensor(std::size_t)>& window) {
  place_slots(session.device(), std::move(shard));
  windowed_ = true;
  values_ = zeroed(session.device(), shard_->size());
  for (std::size_t p = 0; p < trained_.size(); ++p) {
    windows_.push_back(window(p));
    set_piece(trained_[p], session.variable(trained_[p].variable));   // one after the other: only one is here whole at a time
    session.bind(trained_[p].variable, value(p));
  }
}

Tensor Parameters::zeroed(Device& device, std::int64_t n) const {
  if (memory_.allocate) {
    const Buffer buffer = memory_.allocate(static_cast<std::size_t>(n) * sizeof(float));
    return {device, DType::float32, {n}, buffer.memory.get(), buffer.memory};
  }
  return about("memory for " + std::to_string(n) + " values of the model or its optimizer (see cohort inspect, and train.updater = \"sharded\")", [&] {
    Tensor result(device, DType::float32, {n});
    result.copy_from(Tensor::zeros({n}));
    return result;
  });
}

Tensor Parameters::view(const Tensor& flat, const Parameter& parameter) const {
  return {flat.device(), DType::float32, parameter.shape, flat.data<float>() + parameter.offset, flat.owner(), parameter.ld};
}

void Parameters::set_piece(const Parameter& parameter, const Tensor& whole) {
  const FlatRange mine = shard_->part_of({parameter.offset, parameter.n});
  for (std::int64_t at = mine.begin; at < mine.end(); ++at) {
    const std::int64_t row = (at - parameter.offset) / parameter.ld, column = (at - parameter.offset) % parameter.ld;
    if (column < whole.columns()) *values(at) = whole.data<float>()[row * whole.ld() + column];
  }
}

void Parameters::for_each_start_value(const std::function<void(const Tensor&, bool mine)>& visit) const {
  // In parts they are initial values, the same function of seed and name everywhere.
  for (std::size_t p = 0; p < trained_.size() && !windowed_; ++p) visit(value(p), memory_.mine);
  for (const Other& other : others_) visit(other.value, true);
}

/// This rank's part of a parameter's values or of one of its slots, without what pads rows.
class Parameters::Piece {
 public:
  /// `compact`: only the shard's elements lie in `flat`.
  Piece(const Parameters& of, const Tensor& flat, bool compact, const Parameter& parameter)
      : parameter_(parameter), mine_(of.shard_->part_of({parameter.offset, parameter.n})) {
    const std::int64_t at = mine_.n == 0 ? 0 : compact ? of.shard_->position(mine_.begin) : mine_.begin;
    flat_ = flat.data<float>() + at;
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

/// The state in its order: `flat(name, values or a slot of all parameters, only the shard's elements lie there, parameter)`, and
/// `whole(name, tensor)` for what no gradient changes.
template <class Flat, class Whole>
void Parameters::for_each_state(Flat flat, Whole whole) const {
  for (const Parameter& parameter : trained_) flat("parameters/" + parameter.name, values_, windowed_, parameter);
  for (const Other& other : others_) whole(state_name(other), other.value);
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    for (const Parameter& parameter : trained_) flat("slots/" + slot_names_[s] + "/" + parameter.name, slots_[s], true, parameter);
  }
}

void Parameters::save(StateWriter& writer) const {
  for_each_state(
      [&](const std::string& name, const Tensor& flat, bool compact, const Parameter& parameter) {
        if (!in_pieces()) return writer.tensor(name, view(flat, parameter));
        const Piece piece(*this, flat, compact, parameter);
        writer.piece(name, parameter.shape, piece.begin(), piece.copy());
      },
      [&](const std::string& name, const Tensor& value) { writer.tensor(name, value); });
}

void Parameters::load(StateReader& reader) {
  for_each_state(
      [&](const std::string& name, const Tensor& flat, bool compact, const Parameter& parameter) {
        if (!in_pieces()) return reader.tensor(name, memory_.mine ? view(flat, parameter) : Tensor::zeros(parameter.shape));
        const Piece piece(*this, flat, compact, parameter);
        const Tensor dense = piece.copy();
        reader.piece(name, parameter.shape, piece.begin(), dense);
        piece.set(dense);
      },
      [&](const std::string& name, const Tensor& value) { reader.tensor(name, value); });
}

void Parameters::load_others(StateReader& reader) const {
  for (const Other& other : others_) reader.tensor(state_name(other), other.value);
}

}  // namespace cohort
