#pragma once

#include <map>
#include <string>
#include <vector>

#include "cohort/exec/session.hpp"
#include "cohort/graph/gradients.hpp"

/// The examples of all registered ops as something that can be run.
namespace cohort::test {

struct OpCase {
  std::string op;
  std::size_t index = 0;
  const Op* definition = nullptr;
  const Example* example = nullptr;

  [[nodiscard]] std::string text() const;                      ///< "Add example 3 {} float32[4, 3] float32[3]"
  /// Inputs on the host. Random ones depend on the op, the attributes and all shapes, not on the example's position.
  [[nodiscard]] std::vector<Tensor> inputs() const;
  /// Changes with the op's name, attributes and input values: an outdated reference value is not found.
  [[nodiscard]] std::string key() const;
  /// Fixed weights by which output `output` of `n` elements enters the scalar that gradients are taken of.
  [[nodiscard]] std::vector<float> weights(std::size_t output, std::int64_t n) const;
};

/// All examples of `op`.
[[nodiscard]] std::vector<OpCase> cases_of(const std::string& op);

/// The ops that the generic tests leave out, and the file whose tests cover each instead.
[[nodiscard]] const std::map<std::string, std::string>& dedicated_tests();
/// The names of all other ops.
[[nodiscard]] std::vector<std::string> generic_ops();

/// A graph of placeholders and one node of the op; with the gradients of Σ weights · outputs where there are any.
struct CaseGraph {
  explicit CaseGraph(const OpCase& op_case);

  Graph graph;
  std::vector<Tensor> tensors;           ///< fed to `inputs`
  std::vector<Value> inputs, outputs;
  std::vector<std::size_t> float_inputs; ///< the positions of those that `gradients` belong to
  std::vector<Value> gradients;          ///< empty if the op is not differentiable or has no float32 output

  [[nodiscard]] FeedShapes feed_shapes() const;
  [[nodiscard]] Feeds feeds() const;
};

[[nodiscard]] std::vector<double> to_doubles(const Tensor& tensor);
[[nodiscard]] Tensor from_doubles(DType dtype, const Shape& shape, const std::vector<double>& values);

}  // namespace cohort::test
