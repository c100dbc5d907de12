#include "updaters/parameter_window.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace cohort {
namespace {

/// The variable that a value is, or a view of; -1: none.
int variable_under(const Graph& graph, Value value) {
  for (;;) {
    const NodeData& node = graph.node(value.node);
    if (node.op == "Variable") return value.node;
    const auto& reuse = Registry<Op>::instance().get(node.op).reuse;
    const auto view = std::ranges::find_if(reuse, &Reuse::view);
    if (view == reuse.end()) return -1;
    value = node.inputs[static_cast<std::size_t>(view->input)];
  }
}

}  // namespace

ParameterWindow::ParameterWindow(Communicator& communicator, const Parameters& parameters, const Graph& graph,
                                 std::span<const FlatRange> buckets, const CollectiveOptions& options)
    : parameters_(parameters), collective_(make_collective(communicator, options)) {
  for (const FlatRange& range : buckets) parts_.push_back({.range = range});
  for (const Parameter& parameter : parameters_.layout().trained()) {
    const auto after = std::ranges::upper_bound(buckets, parameter.offset, {}, &FlatRange::begin);
    part_of_.push_back(static_cast<std::size_t>(after - buckets.begin()) - 1);
  }
  choose_slots(graph);
  for (Slot& slot : slots_) slot.memory = collective_->allocate(static_cast<std::size_t>(slot.n) * sizeof(float));
  for (std::size_t b = 0; b < parts_.size(); ++b) {
    float* data = static_cast<float*>(slots_[parts_[b].slot].memory.memory.get());
    parts_[b].gather = &collective_->all_gather({.id = static_cast<int>(b), .data = data, .n = static_cast<std::size_t>(parts_[b].range.n)});
  }
}

/// Neighbours get different slots, so that one is fetched while the other is used, and so do buckets that one node reads.
void ParameterWindow::choose_slots(const Graph& graph) {
  std::map<int, std::size_t> part_of_variable;
  for (std::size_t p = 0; p < part_of_.size(); ++p) part_of_variable.emplace(parameters_.layout().trained()[p].variable.node, part_of_[p]);
  std::vector<std::set<std::size_t>> together(parts_.size());
  for (std::size_t b = 1; b < parts_.size(); ++b) together[b].insert(b - 1);
  for (int id = 0; id < graph.size(); ++id) {
    std::set<std::size_t> read;
    for (const Value& input : graph.node(id).inputs) {
      const auto found = part_of_variable.find(variable_under(graph, input));
      if (found != part_of_variable.end()) read.insert(found->second);
    }
    for (const std::size_t a : read) {
      for (const std::size_t b : read) {
        if (b < a) together[a].insert(b);
      }
    }
  }
  for (std::size_t b = 0; b < parts_.size(); ++b) {
    std::set<std::size_t> taken;
    for (const std::size_t other : together[b]) taken.insert(parts_[other].slot);
    std::size_t slot = 0;
    while (taken.contains(slot)) ++slot;
    if (slot == slots_.size()) slots_.emplace_back();
    parts_[b].slot = slot;
    slots_[slot].n = std::max(slots_[slot].n, parts_[b].range.n);
  }
}

Tensor ParameterWindow::window(Device& device, std::size_t p) const {
  const Parameter& parameter = parameters_.layout().trained()[p];
  const Part& part = parts_[part_of_[p]];
  const std::shared_ptr<void>& memory = slots_[part.slot].memory.memory;
  return {device, DType::float32, parameter.shape, static_cast<float*>(memory.get()) + (parameter.offset - part.range.begin), memory, parameter.ld};
}

void ParameterWindow::need(std::span<const std::size_t> parameters) {
  check(asked_ + parameters.size() <= order_.size() && std::ranges::equal(order_.subspan(asked_, parameters.size()), parameters), Code::internal,
        "a step reads parameters in another order than it was prepared for");
  asked_ += parameters.size();
  for (const std::size_t p : parameters) {
    const std::size_t part = part_of_[p];
    if (!here(part)) {
      if (coming_ != kNone) finish();
      start(part);
    }
    if (coming_ == part) finish();
  }
  fetch_ahead(parameters);
}

/// The next bucket that is not the one at hand. Where it is here already it stays, and nothing is fetched.
void ParameterWindow::fetch_ahead(std::span<const std::size_t> parameters) {
  if (coming_ != kNone || parameters.empty()) return;
  const auto rest = order_.subspan(asked_);
  const auto next = std::ranges::find_if(rest, [&](std::size_t p) { return part_of_[p] != part_of_[parameters.back()]; });
  if (next == rest.end() || here(part_of_[*next])) return;
  const std::size_t part = part_of_[*next], slot = parts_[part].slot;
  const bool in_use = std::ranges::any_of(parameters, [&](std::size_t p) { return parts_[part_of_[p]].slot == slot; });
  if (!in_use) start(part);
}

/// This rank's block goes where the others' will.
void ParameterWindow::start(std::size_t part) {
  const Part& p = parts_[part];
  Slot& slot = slots_[p.slot];
  const Block mine = collective_->block(collective_->communicator().rank(), static_cast<std::size_t>(p.range.n));
  if (mine.size > 0) {
    std::copy_n(parameters_.values().at(p.range.begin + static_cast<std::int64_t>(mine.begin)), mine.size,
                static_cast<float*>(slot.memory.memory.get()) + mine.begin);
  }
  slot.holds = part;
  coming_ = part;
  p.gather->start(gathers_++);
}

void ParameterWindow::finish() {
  parts_[coming_].gather->wait();
  coming_ = kNone;
}

void ParameterWindow::poll() {
  if (coming_ != kNone && parts_[coming_].gather->advance()) coming_ = kNone;
}

void ParameterWindow::invalidate() {
  if (coming_ != kNone) finish();
  for (Slot& slot : slots_) slot.holds = kNone;
}

std::int64_t ParameterWindow::bytes() const noexcept {
  std::int64_t n = 0;
  for (const Slot& slot : slots_) n += slot.n;
  return n * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace cohort
