// Comparisons with bool results.
#include "cohort/graph/gradients.hpp"
#include "ops/broadcast.hpp"

namespace cohort {
namespace {

// IEEE 754: every comparison with NaN is false but !=.
struct IsEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a == b; }
};
struct IsNotEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a != b; }
};
struct IsLess {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a < b; }
};
struct IsLessEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a <= b; }
};
struct IsGreater {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a > b; }
};
struct IsGreaterEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a >= b; }
};

std::vector<Signature> infer_comparison(const Inference& c) {
  c.expect_inputs(2);
  const DType dtype = c.in(0).dtype;
  if (dtype == DType::float64 || dtype == DType::float16 || dtype == DType::bfloat16) {
    c.refuse("compares float32, int32, int64, uint8 and bool; cast the inputs");
  }
  return {{DType::boolean, broadcast_both(c)[0].shape}};
}

ExampleInput numbers(const Shape& shape, DType dtype, std::vector<double> values) {
  return {.shape = shape, .dtype = dtype, .values = std::move(values)};
}

/// Equal, smaller and larger pairs, and the ways to broadcast.
std::vector<Example> comparisons() {
  std::vector<Example> examples{
      {.in = {numbers({6}, DType::float32, {1, 2, 3, -1, 0, 5}), numbers({6}, DType::float32, {1, 3, 2, -1, 0.5, -5})}},
      {.in = {numbers({2, 3}, DType::float32, {1, 2, 3, 4, 5, 6}), numbers({3}, DType::float32, {1, 5, 3})}},
      {.in = {numbers({2, 3}, DType::float32, {1, 2, 3, 4, 5, 6}), numbers({2, 1}, DType::float32, {2, 5})}},
      {.in = {numbers({}, DType::float32, {2}), numbers({3}, DType::float32, {1, 2, 3})}},
      {.in = {{.shape = {0, 3}}, {.shape = {3}}}},
      {.in = {numbers({2}, DType::boolean, {0, 1}), numbers({2, 1}, DType::boolean, {0, 1})}}};
  for (const DType dtype : {DType::int32, DType::int64, DType::uint8}) {
    examples.push_back({.in = {numbers({4}, dtype, {1, 2, 3, 4}), numbers({4}, dtype, {4, 2, 1, 4})}});
  }
  return examples;
}

template <class F>
struct Comparison {
  explicit Comparison(std::string_view name, std::source_location where = std::source_location::current())
      : op{name, {.infer = infer_comparison, .gradient = no_gradient, .examples = comparisons()}, where},
        kernel{name, "CPU", make_binary_kernel<F, float, std::int32_t, std::int64_t, std::uint8_t, bool>, where} {}
  Registered<Op> op;
  RegisteredKernel kernel;
};

const Comparison<IsEqual> equal_op{"Equal"};
const Comparison<IsNotEqual> not_equal_op{"NotEqual"};
const Comparison<IsLess> less_op{"Less"};
const Comparison<IsLessEqual> less_equal_op{"LessEqual"};
const Comparison<IsGreater> greater_op{"Greater"};
const Comparison<IsGreaterEqual> greater_equal_op{"GreaterEqual"};

}  // namespace
}  // namespace cohort
