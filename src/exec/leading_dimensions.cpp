#include "exec/leading_dimensions.hpp"

#include <algorithm>

namespace cohort {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

class Chooser {
 public:
  Chooser(const Plan& plan, const LeadingDimensionRequest& request) : plan_(plan), request_(request) {
    for (const PlanNode& node : plan_.nodes) {
      auto& mine = wish_.emplace_back();
      auto& dense = result_.emplace_back();
      for (const Signature& s : node.outputs) {
        mine.push_back(s.dtype == DType::float32 ? padded_ld(s.shape) : s.shape.columns());
        dense.push_back(s.shape.columns());
      }
    }
  }

  std::vector<std::vector<std::int64_t>> run() {
    look_at_fetches();
    look_at_readers();
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      const PlanNode& node = plan_.nodes[i];
      if (node.definition->source) continue;
      for (std::size_t o = 0; o < node.outputs.size(); ++o) {
        const PlanValue self{static_cast<int>(i), static_cast<int>(o)}, root = viewed(self);
        if (!(root == self)) {   // a view has its rows where the viewed value has them
          const bool same_rows = plan_.signature(root).shape.columns() == node.outputs[o].shape.columns();
          if (same_rows) result_[i][o] = result_[at(root.node)][at(root.output)];
        } else if (request_.any_ld[i]) {
          result_[i][o] = wish_[i][o];
        }
      }
    }
    return std::move(result_);
  }

 private:
  [[nodiscard]] PlanValue viewed(PlanValue v) const {
    for (;;) {
      const PlanNode& node = plan_.nodes[at(v.node)];
      const auto view = std::find_if(node.definition->reuse.begin(), node.definition->reuse.end(),
                                     [&](const Reuse& r) { return r.view && r.output == v.output; });
      if (view == node.definition->reuse.end()) return v;
      v = node.inputs[at(view->input)];
    }
  }

  void make_dense(PlanValue root) { wish_[at(root.node)][at(root.output)] = plan_.signature(root).shape.columns(); }

  void look_at_fetches() {
    for (std::size_t f = 0; f < plan_.fetches.size(); ++f) {
      const PlanValue root = viewed(plan_.fetches[f]);
      const Shape &fetched = plan_.signature(plan_.fetches[f]).shape, &shape = plan_.signature(root).shape;
      if (request_.bound_ld[f] == 0 || fetched.columns() != shape.columns()) make_dense(root);
      else wish_[at(root.node)][at(root.output)] = request_.bound_ld[f];
    }
  }

  void look_at_readers() {
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      const PlanNode& node = plan_.nodes[i];
      const int shapes_from = node.definition->shapes_from;
      const std::size_t memories = shapes_from < 0 ? node.inputs.size() : std::min(at(shapes_from), node.inputs.size());
      for (std::size_t k = 0; k < memories; ++k) {
        const PlanValue root = viewed(node.inputs[k]);
        const bool same_rows = plan_.signature(node.inputs[k]).shape.columns() == plan_.signature(root).shape.columns();
        if (!same_rows || (request_.runs[i] && !request_.any_ld[i])) make_dense(root);
      }
      if (request_.runs[i]) continue;
      for (std::size_t o = 0; o < node.outputs.size(); ++o) {   // a free view to other rows
        const PlanValue self{static_cast<int>(i), static_cast<int>(o)}, root = viewed(self);
        if (plan_.signature(root).shape.columns() != node.outputs[o].shape.columns()) make_dense(root);
      }
    }
  }

  const Plan& plan_;
  const LeadingDimensionRequest& request_;
  std::vector<std::vector<std::int64_t>> wish_, result_;
};

}  // namespace

std::vector<std::vector<std::int64_t>> choose_leading_dimensions(const Plan& plan, const LeadingDimensionRequest& request) {
  return Chooser(plan, request).run();
}

}  // namespace cohort
