#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/base/registry.hpp"
#include "cohort/graph/graph.hpp"

namespace cohort {

/// What a model is given: the fields of a batch ("image" float32 [n, h, w, c], "label" int32 [n]) and whether the graph is
/// built for training (dropout, batch statistics) or for evaluation.
struct Batch {
  std::map<std::string, Value, std::less<>> fields;
  bool training = true;
  /// Error not_found with the fields that there are.
  [[nodiscard]] Value operator[](std::string_view name) const;
};

/// What a model is: a scalar to minimise, scalars to report, and optionally what it predicts ([n, classes] logits, say).
/// Loss and metrics are means over the batch, so that they can be averaged over batches weighted by their sizes.
struct Model {
  Value loss;
  std::vector<std::pair<std::string, Value>> metrics{};
  Value output{};
};

/// Adds a model to a graph. Called once for training and once for evaluation on one graph: layers of the same name share
/// their parameters.
using ModelBuilder = std::function<Model(Graph&, const Batch&)>;

/// How a model enters: binds its options (sizes, dropout) from its section of the job file.
///
///     const Registered<ModelType> model{"mlp", {.make = [](Section& s) -> ModelBuilder { return Mlp(s); }}};
struct ModelType {
  std::function<ModelBuilder(Section&)> make;
};
template <>
inline constexpr std::string_view kKindOf<ModelType> = "model";

/// Loss, accuracy and logits of a classifier of `batch["label"]`.
[[nodiscard]] Model classifier(const Batch& batch, Value logits, double label_smoothing = 0);

}  // namespace cohort
