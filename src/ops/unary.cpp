// Elementary functions of one value, element by element.
#include <cmath>

#include "cohort/exec/elementwise_kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/tensor/vector_math.hpp"

namespace cohort {
namespace {

struct Exp {
  COHORT_HD float operator()(float x) const { return vec::exp(x); }
};
struct Log {
  COHORT_HD float operator()(float x) const { return std::log(x); }
};
struct Sqrt {
  COHORT_HD float operator()(float x) const { return std::sqrt(x); }
};
struct Square {
  COHORT_HD float operator()(float x) const { return x * x; }
};
struct Abs {
  COHORT_HD float operator()(float x) const { return std::fabs(x); }
};
/// 0 at 0, NaN at NaN (as in NumPy).
struct Sign {
  COHORT_HD float operator()(float x) const { return x > 0.f ? 1.f : x < 0.f ? -1.f : x; }
};

std::vector<Example> examples(double low, double high) {
  std::vector<Example> result;
  for (const Shape& shape : {Shape{3, 5}, Shape{1, 17}, Shape{}, Shape{0, 4}}) {
    result.push_back({.in = {{.shape = shape, .low = low, .high = high}}});
  }
  return result;
}

const std::vector<Reuse> kInPlace{{.output = 0, .input = 0}};

const Registered<Op> exp_op{
    "Exp",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {b.dy() * b.y()}; },
     .examples = examples(-3, 3),
     .reuse = kInPlace}};
const ElementwiseKernel<Exp> exp_kernel{"Exp"};

const Registered<Op> log_op{
    "Log",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {b.dy() / b.x(0)}; },
     .examples = examples(0.2, 4),
     .reuse = kInPlace}};
const ElementwiseKernel<Log> log_kernel{"Log"};

const Registered<Op> sqrt_op{
    "Sqrt",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {b.dy() * 0.5f / b.y()}; },
     .examples = examples(0.2, 4),
     .reuse = kInPlace}};
const ElementwiseKernel<Sqrt> sqrt_kernel{"Sqrt"};

const Registered<Op> square_op{
    "Square",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {b.dy() * 2.f * b.x(0)}; },
     .examples = examples(-2, 2),
     .reuse = kInPlace}};
const ElementwiseKernel<Square> square_kernel{"Square"};

const Registered<Op> abs_op{
    "Abs",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.dy() * b.graph.add("Sign", {b.x(0)})};
     },
     .examples = {{.in = {{.shape = {3, 5}, .low = 0.1}}}, {.in = {{.shape = {7}, .low = -2, .high = -0.1}}}},
     .reuse = kInPlace}};
const ElementwiseKernel<Abs> abs_kernel{"Abs"};

const Registered<Op> sign_op{
    "Sign",
    {.infer = same_as_first,
     .gradient = no_gradient,
     .examples = {{.in = {{.shape = {3}, .values = {-2.5, 0.5, 3}}}, .expected = {{-1, 1, 1}}}},
     .reuse = kInPlace}};
const ElementwiseKernel<Sign> sign_kernel{"Sign"};

}  // namespace
}  // namespace cohort
