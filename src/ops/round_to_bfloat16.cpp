// RoundToBfloat16(x): x as float32, rounded to the nearest bfloat16, ties to even; NaN stays NaN. Put into plans when the gradients
// are there already (exec/precision.hpp), so it needs none of its own.
#include "cohort/exec/elementwise_kernel.hpp"
#include "cohort/tensor/dtype.hpp"

namespace cohort {
namespace {

struct Round {
  COHORT_HD float operator()(float x) const { return static_cast<float>(bfloat16(x)); }
};

// Never merged: one rounding that serves forward and backward would have to live between them, beside what it was made from.
const Registered<Op> op{
    "RoundToBfloat16",
    {.infer = same_as_first,
     .examples = {{.in = {{.shape = {5}, .values = {1.0, 1.00390625, 1.01171875, -3.1415927, 0.0}}}, .expected = {{1.0, 1.0, 1.015625, -3.140625, 0.0}}},
                  {.in = {{.shape = {0, 3}, .values = {}}}, .expected = {{}}}},
     .stateful = true}};
const ElementwiseKernel<Round> kernel{"RoundToBfloat16"};

}  // namespace
}  // namespace cohort
