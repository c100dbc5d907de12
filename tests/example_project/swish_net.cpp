// One hidden layer with the Swish op.
#include <cohort/cohort.hpp>

namespace {

struct SwishNet {
  std::int64_t hidden = 32;
  explicit SwishNet(cohort::Section& section) {
    section.bind("hidden", hidden, "units of the hidden layer", cohort::at_least(1));
  }
  cohort::Model operator()(cohort::Graph& graph, const cohort::Batch& batch) const {
    const cohort::Value h = cohort::nn::dense(cohort::flatten(batch["image"]), hidden, "hidden");
    return cohort::classifier(batch, cohort::nn::dense(graph.add("Swish", {h}), 10, "output"));
  }
};

const cohort::Registered<cohort::ModelType> model{
    "swish_net", {[](cohort::Section& section) -> cohort::ModelBuilder { return SwishNet(section); }}};

}  // namespace
