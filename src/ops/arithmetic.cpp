// Arithmetic of two values with NumPy's broadcasting. Gradients are those of the formulas for equal shapes: gradients()
// sums them over the dimensions that were broadcast.
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/exec/elementwise_kernel.hpp"
#include "ops/broadcast.hpp"

namespace cohort {
namespace {

/// Integers wrap around, as in NumPy; in C++ only the unsigned ones may.
template <class T, class F>
COHORT_HD T wrapping(T a, T b, F f) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(f(static_cast<U>(a), static_cast<U>(b)));
  } else {
    return f(a, b);
  }
}

struct Plus {
  template <class T>
  COHORT_HD T operator()(T a, T b) const { return wrapping(a, b, [](auto x, auto y) { return x + y; }); }
};
struct Minus {
  template <class T>
  COHORT_HD T operator()(T a, T b) const { return wrapping(a, b, [](auto x, auto y) { return x - y; }); }
};
struct Times {
  template <class T>
  COHORT_HD T operator()(T a, T b) const { return wrapping(a, b, [](auto x, auto y) { return x * y; }); }
};
struct Quotient {
  COHORT_HD float operator()(float a, float b) const { return a / b; }
};
/// NaN in either input gives NaN: a comparison with it is false, so it is asked for.
struct Larger {
  COHORT_HD float operator()(float a, float b) const { return (a > b) | (a != a) ? a : b; }
};
struct Smaller {
  COHORT_HD float operator()(float a, float b) const { return (a < b) | (a != a) ? a : b; }
};
struct Negative {
  COHORT_HD float operator()(float x) const { return -x; }
};

std::vector<Signature> numbers(const Inference& c) {
  c.expect_inputs(2);
  const DType dtype = c.in(0).dtype;
  if (dtype != DType::float32 && dtype != DType::int32 && dtype != DType::int64) c.refuse("takes float32, int32 or int64");
  return broadcast_both(c);
}

std::vector<Signature> floats(const Inference& c) {
  c.expect_inputs(2);
  c.expect_float(0);
  return broadcast_both(c);
}

std::vector<Example> with_integers(std::vector<Example> examples) {
  for (const DType dtype : {DType::int32, DType::int64}) {
    examples.push_back({.in = {{.shape = {3, 4}, .dtype = dtype, .low = -9, .high = 9},
                               {.shape = {4}, .dtype = dtype, .low = -9, .high = 9}}});
  }
  return examples;
}

const std::vector<Reuse> kEitherInput{{.output = 0, .input = 0}, {.output = 0, .input = 1}};

const Registered<Op> add_op{
    "Add",
    {.infer = numbers,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {b.dy(), b.dy()}; },
     .examples = with_integers(broadcast_examples()),
     .reuse = kEitherInput,
     .broadcasts = true}};
const RegisteredKernel add_kernel{"Add", "CPU", make_binary_kernel<Plus, float, std::int32_t, std::int64_t>};

const Registered<Op> sub_op{
    "Sub",
    {.infer = numbers,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.dy(), b.wants(1) ? -b.dy() : Value{}};
     },
     .examples = with_integers(broadcast_examples()),
     .reuse = kEitherInput,
     .broadcasts = true}};
const RegisteredKernel sub_kernel{"Sub", "CPU", make_binary_kernel<Minus, float, std::int32_t, std::int64_t>};

const Registered<Op> mul_op{
    "Mul",
    {.infer = numbers,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.wants(0) ? b.dy() * b.x(1) : Value{}, b.wants(1) ? b.dy() * b.x(0) : Value{}};
     },
     .examples = with_integers(broadcast_examples()),
     .reuse = kEitherInput,
     .broadcasts = true}};
const RegisteredKernel mul_kernel{"Mul", "CPU", make_binary_kernel<Times, float, std::int32_t, std::int64_t>};

/// y = a / b: dy/da = 1 / b, dy/db = −y / b.
const Registered<Op> div_op{
    "Div",
    {.infer = floats,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       const Value da = b.dy() / b.x(1);
       return {da, b.wants(1) ? -(da * b.y()) : Value{}};
     },
     .examples = broadcast_examples(0.5, 2),
     .reuse = kEitherInput,
     .broadcasts = true}};
const RegisteredKernel div_kernel{"Div", "CPU", make_binary_kernel<Quotient, float>};

/// The gradient goes to the input that was taken; where both are equal each gets half (as in PyTorch).
std::vector<Value> to_the_taken(const Backward& b, Value first_not_taken) {
  const Value zero = b.graph.constant(0.f), half = b.dy() * 0.5f, tie = equal(b.x(0), b.x(1));
  return {b.wants(0) ? select(tie, half, select(first_not_taken, zero, b.dy())) : Value{},
          b.wants(1) ? select(tie, half, select(first_not_taken, b.dy(), zero)) : Value{}};
}

const Registered<Op> maximum_op{
    "Maximum",
    {.infer = floats,
     .gradient = [](const Backward& b) { return to_the_taken(b, less(b.x(0), b.x(1))); },
     .examples = broadcast_examples(),
     .reuse = kEitherInput,
     .broadcasts = true}};
const RegisteredKernel maximum_kernel{"Maximum", "CPU", make_binary_kernel<Larger, float>};

const Registered<Op> minimum_op{
    "Minimum",
    {.infer = floats,
     .gradient = [](const Backward& b) { return to_the_taken(b, greater(b.x(0), b.x(1))); },
     .examples = broadcast_examples(),
     .reuse = kEitherInput,
     .broadcasts = true}};
const RegisteredKernel minimum_kernel{"Minimum", "CPU", make_binary_kernel<Smaller, float>};

const Registered<Op> neg_op{
    "Neg",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {-b.dy()}; },
     .examples = {{.in = {{.shape = {3, 5}}}}, {.in = {{.shape = {}}}}, {.in = {{.shape = {0, 2}}}}},
     .reuse = {{.output = 0, .input = 0}}}};
const ElementwiseKernel<Negative> neg_kernel{"Neg"};

}  // namespace
}  // namespace cohort
