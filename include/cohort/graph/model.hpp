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
  /// The field called `name`, or else the only one that is `wanted`, whatever it is called. Error invalid_argument, saying what
  /// the model looked for and what there is.
  struct Wanted {
    std::string_view who;                            ///< asks, for messages: "model lenet"
    DType dtype = DType::float32;
    std::size_t least_rank = 1, most_rank = 1;       ///< dimensions; the first one is that of the batch
    std::string_view form{};                         ///< of them, for messages: "[n, height, width, channels]"
  };
  [[nodiscard]] Value take(std::string_view name, const Wanted& wanted) const;
};
/// What nets of images want.
[[nodiscard]] inline Batch::Wanted images(std::string_view who) {
  return {.who = who, .least_rank = 4, .most_rank = 4, .form = "[n, height, width, channels]"};
}

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

/// Loss, accuracy and logits of a classifier of the batch's labels: `label`, or the only field that is int32 [n].
[[nodiscard]] Model classifier(const Batch& batch, Value logits, double label_smoothing = 0);

}  // namespace cohort
