// A multi-layer perceptron: fully connected layers with relu, and optionally dropout, over the flattened input.
#include <cstdint>
#include <string>
#include <vector>

#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

struct Mlp {
  std::vector<std::int64_t> hidden{1024, 1024};
  std::int64_t classes = 10;
  double dropout = 0, label_smoothing = 0;

  explicit Mlp(Section& s) {
    s.bind("hidden", hidden, "units of each hidden layer", at_least(1));
    s.bind("classes", classes, "number of classes", at_least(1));
    s.bind("dropout", dropout, "share of a hidden layer's results that is dropped in training", between(0, 0.99));
    s.bind("label_smoothing", label_smoothing, "share of the target spread evenly over the classes", between(0, 1));
  }

  Model operator()(Graph&, const Batch& batch) const {
    Value h = flatten(batch.take("image", {.who = "model mlp", .least_rank = 2, .most_rank = Shape::kMaxRank, .form = "[n, …]"}));
    for (std::size_t i = 0; i < hidden.size(); ++i) {
      h = nn::dense(h, hidden[i], "hidden_" + std::to_string(i + 1), nn::Activation::relu);
      h = nn::dropout(h, static_cast<float>(dropout), batch.training);
    }
    return classifier(batch, nn::dense(h, classes, "output"), label_smoothing);
  }
};

const Registered<ModelType> model{"mlp", {.make = [](Section& s) -> ModelBuilder { return Mlp(s); }}};

}  // namespace
}  // namespace cohort
