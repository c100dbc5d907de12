#include "exec/memory_plan.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace cohort {
namespace {

constexpr int kForever = std::numeric_limits<int>::max();
constexpr std::size_t kAlignment = 64;

std::size_t exact_bytes_of(const Signature& s, std::int64_t ld) { return static_cast<std::size_t>(s.shape.rows() * ld) * size_of(s.dtype); }

std::size_t bytes_of(const Signature& s, std::int64_t ld) { return (exact_bytes_of(s, ld) + kAlignment - 1) / kAlignment * kAlignment; }

class Planner {
 public:
  Planner(const Plan& plan, const MemoryRequest& request) : plan_(plan), request_(request) { result_.group.resize(plan.nodes.size()); }

  MemoryPlan run() {
    find_last_readers();
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) assign(static_cast<int>(i));
    bind_fetches();
    lay_out();
    result_.least_arena_bytes = most_alive();
    return std::move(result_);
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }

  static const Reuse* reuse_of(const PlanNode& node, std::size_t output, bool view) {
    for (const Reuse& reuse : node.definition->reuse) {
      if (at(reuse.output) == output && reuse.view == view) return &reuse;
    }
    return nullptr;
  }

  PlanValue viewed(PlanValue v) const {   // the value whose memory v is a view of
    for (;;) {
      const PlanNode& node = plan_.nodes[at(v.node)];
      const Reuse* view = reuse_of(node, at(v.output), true);
      if (view == nullptr) return v;
      v = node.inputs[at(view->input)];
    }
  }

  void find_last_readers() {
    last_.resize(plan_.nodes.size());
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) last_[i].assign(plan_.nodes[i].outputs.size(), static_cast<int>(i));
    const auto read = [&](PlanValue v, int when) {
      const PlanValue root = viewed(v);
      int& last = last_[at(root.node)][at(root.output)];
      last = std::max(last, when);
    };
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      const bool later = request_.finishes_later[i];
      const auto& inputs = plan_.nodes[i].inputs;
      const int shapes_from = plan_.nodes[i].definition->shapes_from;
      const std::size_t memories = shapes_from < 0 ? inputs.size() : std::min(at(shapes_from), inputs.size());
      for (std::size_t k = 0; k < memories; ++k) read(inputs[k], later ? kForever : static_cast<int>(i));
      if (later) std::fill(last_[i].begin(), last_[i].end(), kForever);
    }
    for (std::size_t f = 0; f < plan_.fetches.size(); ++f) {
      if (request_.consumed.empty() || !request_.consumed[f]) read(plan_.fetches[f], kForever);
    }
  }

  void assign(int id) {
    const PlanNode& node = plan_.nodes[at(id)];
    auto& mine = result_.group[at(id)];
    mine.assign(node.outputs.size(), -1);
    for (std::size_t o = 0; o < node.outputs.size(); ++o) {
      if (const Reuse* view = reuse_of(node, o, true)) {
        const PlanValue input = node.inputs[at(view->input)];
        mine[o] = result_.group[at(input.node)][at(input.output)];
      } else if (const int taken = in_place(id, o); taken >= 0) {
        mine[o] = taken;
        result_.groups[at(taken)].last = std::max(result_.groups[at(taken)].last, last_[at(id)][o]);
      } else {
        mine[o] = static_cast<int>(result_.groups.size());
        result_.groups.push_back({.place = node.definition->source ? MemoryPlan::Place::source : MemoryPlan::Place::arena,
                                  .bytes = bytes_of(node.outputs[o], request_.ld[at(id)][o]), .first = id, .last = last_[at(id)][o],
                                  .source = {id, static_cast<int>(o)}});
      }
    }
  }

  [[nodiscard]] std::int64_t ld_of(PlanValue v) const { return request_.ld[at(v.node)][at(v.output)]; }

  /// Is element i of both at the same address if both begin at the same?
  static bool same_place(const Signature& a, std::int64_t lda, const Signature& b, std::int64_t ldb) {
    if (exact_bytes_of(a, lda) != exact_bytes_of(b, ldb) || size_of(a.dtype) != size_of(b.dtype)) return false;
    const bool dense = lda == a.shape.columns() && ldb == b.shape.columns();
    return dense || (lda == ldb && a.shape.columns() == b.shape.columns());
  }

  /// The group of an input that this output may overwrite: arena memory of the same size that nobody reads later.
  int in_place(int id, std::size_t output) const {
    const PlanNode& node = plan_.nodes[at(id)];
    for (const Reuse& reuse : node.definition->reuse) {
      if (reuse.view || at(reuse.output) != output || at(reuse.input) >= node.inputs.size()) continue;
      const PlanValue input = node.inputs[at(reuse.input)];
      const int group = result_.group[at(input.node)][at(input.output)];
      const MemoryPlan::Group& candidate = result_.groups[at(group)];
      if (candidate.place != MemoryPlan::Place::arena || candidate.last != id) continue;
      // Exactly the same size: an input that is broadcast is read again after its first element has been overwritten.
      if (!same_place(node.outputs[output], request_.ld[at(id)][output], plan_.signature(input), ld_of(input))) continue;
      // Another input in the same memory would be overwritten while it is read.
      const auto sharing = std::count_if(node.inputs.begin(), node.inputs.end(), [&](PlanValue v) {
        return result_.group[at(v.node)][at(v.output)] == group;
      });
      const auto& mine = result_.group[at(id)];
      if (sharing == 1 && std::find(mine.begin(), mine.end(), group) == mine.end()) return group;
    }
    return -1;
  }

  void bind_fetches() {
    for (std::size_t f = 0; f < plan_.fetches.size(); ++f) {
      if (!request_.bound_fetches[f]) continue;
      const PlanValue fetch = plan_.fetches[f];
      MemoryPlan::Group& group = result_.groups[at(result_.group[at(fetch.node)][at(fetch.output)])];
      if (group.place != MemoryPlan::Place::arena) continue;   // the executor copies instead
      group.place = MemoryPlan::Place::bound;
      group.binding = static_cast<int>(f);
    }
  }

  /// Bytes that live at the busiest moment, counted as large as the values are without padding.
  [[nodiscard]] std::size_t most_alive() const {
    std::vector<std::size_t> starts(plan_.nodes.size() + 1), ends(plan_.nodes.size() + 1);
    for (const MemoryPlan::Group& group : result_.groups) {
      if (group.place != MemoryPlan::Place::arena) continue;
      const Signature& s = plan_.signature(group.source);
      const std::size_t bytes = static_cast<std::size_t>(s.shape.elements()) * size_of(s.dtype);
      starts[at(group.first)] += bytes;
      ends[std::min(at(group.last), plan_.nodes.size() - 1) + 1] += bytes;
    }
    std::size_t now = 0, most = 0;
    for (std::size_t i = 0; i < starts.size(); ++i) {
      now = now - ends[i] + starts[i];
      most = std::max(most, now);
    }
    return most;
  }

  void lay_out() {
    std::vector<std::size_t> order;
    for (std::size_t g = 0; g < result_.groups.size(); ++g) {
      if (result_.groups[g].place == MemoryPlan::Place::arena && result_.groups[g].bytes > 0) order.push_back(g);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return result_.groups[a].bytes > result_.groups[b].bytes; });
    std::vector<std::size_t> placed;      // by offset
    for (const std::size_t g : order) {
      MemoryPlan::Group& group = result_.groups[g];
      std::size_t offset = 0;
      for (const std::size_t p : placed) {
        const MemoryPlan::Group& other = result_.groups[p];
        if (other.last < group.first || group.last < other.first) continue;
        if (offset + group.bytes <= other.offset) break;
        offset = std::max(offset, other.offset + other.bytes);
      }
      group.offset = offset;
      result_.arena_bytes = std::max(result_.arena_bytes, offset + group.bytes);
      const auto where = std::upper_bound(placed.begin(), placed.end(), offset, [&](std::size_t value, std::size_t p) {
        return value < result_.groups[p].offset;
      });
      placed.insert(where, g);
    }
  }

  const Plan& plan_;
  const MemoryRequest& request_;
  MemoryPlan result_;
  std::vector<std::vector<int>> last_;    // by node and output, views counted for what they view
};

}  // namespace

MemoryPlan plan_memory(const Plan& plan, const MemoryRequest& request) { return Planner(plan, request).run(); }

}  // namespace cohort
