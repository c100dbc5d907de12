#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cohort/base/registry.hpp"
#include "cohort/graph/attrs.hpp"

namespace cohort {

class Backward;
struct Value;

/// Element type and shape of one value; dimensions may be unknown while a graph is built, never in a prepared step.
struct Signature {
  DType dtype = DType::float32;
  Shape shape{};
  [[nodiscard]] std::string text() const;   ///< "float32[?, 10]"
  friend bool operator==(const Signature&, const Signature&) = default;
};

/// What a shape rule sees: the node's input signatures and attributes, and ways to refuse them that name op, input and
/// shapes.
class Inference {
 public:
  Inference(std::string_view op, std::string_view node, std::span<const Signature> in, const Attrs& attributes)
      : attrs(attributes), op_(op), node_(node), in_(in) {}

  [[nodiscard]] std::size_t inputs() const noexcept { return in_.size(); }
  [[nodiscard]] const Signature& in(std::size_t i) const;                       ///< refuses if there are fewer inputs
  [[nodiscard]] const Shape& shape(std::size_t i) const { return in(i).shape; }
  void expect_inputs(std::size_t n) const;
  void expect_dtype(std::size_t i, DType dtype) const;
  void expect_float(std::size_t i) const;                                       ///< float32, the type of arithmetic
  void expect_same_dtype(std::size_t i, std::size_t j) const;
  void expect_rank(std::size_t i, std::size_t rank) const;
  /// Both must have the same, possibly unknown, shape; returns the better known one.
  [[nodiscard]] Shape expect_same_shape(std::size_t i, std::size_t j) const;
  [[nodiscard]] Shape broadcast(std::size_t i, std::size_t j) const;
  /// An axis attribute's value as a position in input i's shape; negative counts from the end.
  [[nodiscard]] std::size_t axis(std::size_t i, std::int64_t axis) const;
  [[noreturn]] void refuse(const std::string& why) const;                       ///< "MatMul 'h/matmul': why (inputs …)"

  const Attrs& attrs;

 private:
  std::string_view op_, node_;
  std::span<const Signature> in_;
};

/// How the generic tests call an op: inputs are drawn from the counter-based generator (whole numbers for integer types).
struct ExampleInput {
  Shape shape{};
  DType dtype = DType::float32;
  double low = -1, high = 1;                   ///< uniform in [low, high); keep away from kinks so that finite differences hold
  std::vector<double> values{};                ///< instead of random numbers
};
struct Example {
  std::vector<ExampleInput> in{};
  Attrs attrs{};
  std::vector<std::vector<double>> expected{}; ///< per output; empty: computed by PyTorch, in tests/ops/op_values.txt
  double tolerance = 2e-5;                     ///< relative to the largest magnitude of the output
};

/// Output `output` may take, or always is (`view`), the memory of input `input`. A view without a kernel costs nothing.
struct Reuse {
  int output = 0;
  int input = 0;
  bool view = false;
};

/// What one operation means. Kernels are registered beside it by (op, kernel family), see exec/kernel.hpp.
struct Op {
  std::vector<Signature> (*infer)(const Inference&) = nullptr;
  std::vector<Value> (*gradient)(const Backward&) = nullptr;   ///< one per input, absent where none; null: not differentiable
  std::vector<Example> examples{};
  std::vector<Reuse> reuse{};
  int shapes_from = -1;        ///< from this input on the kernel needs shapes alone: their memory may be gone; -1: none
  bool stateful = false;       ///< reads or writes a resource, or random: never merged, never folded
  bool broadcasts = false;     ///< inputs broadcast against each other: gradients() sums its results back to their shapes
  bool source = false;         ///< has no kernel, its memory comes from elsewhere: Placeholder, Variable, Constant
  /// Multiplications and additions of one run that the mathematics asks for, however the kernel does it; null: not worth
  /// counting, as of elementwise ops. All shapes are known.
  double (*flops)(std::span<const Signature> in, std::span<const Signature> out, const Attrs& attrs) = nullptr;
  std::vector<int> products{};   ///< float32 inputs that enter products, which training in 16 bits rounds
  bool native_bf16 = false;      ///< kernels know the attribute `native_bf16`: convert those inputs and multiply them as bfloat16
};
template <>
inline constexpr std::string_view kKindOf<Op> = "op";

/// Common shape rules.
[[nodiscard]] std::vector<Signature> same_as_first(const Inference& c);         ///< one float input, output alike
[[nodiscard]] std::vector<Signature> same_as_both(const Inference& c);          ///< two float inputs of one shape
[[nodiscard]] std::vector<Signature> broadcast_both(const Inference& c);        ///< two inputs of one type, broadcast

}  // namespace cohort
