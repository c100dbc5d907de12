// Elementwise activations. The derivative of each is written in terms of what is cheapest to keep.
#include <cmath>

#include "cohort/exec/elementwise_kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

/// NaN stays NaN: NaN > 0 is false, but so is NaN <= 0.
struct Relu {
  COHORT_HD float operator()(float x) const { return x <= 0.f ? 0.f : x; }
};
/// d/dx from the result: 1 where y > 0.
struct ReluGrad {
  COHORT_HD float operator()(float dy, float y) const { return y > 0.f ? dy : 0.f; }
};

const Registered<Op> relu_op{"Relu", {.infer = same_as_first,
                                      .gradient = [](const Backward& b) -> std::vector<Value> {
                                        return {b.graph.add("ReluGrad", {b.dy(), b.y()})};
                                      },
                                      .examples = {{.in = {{.shape = {3, 5}, .low = 0.1, .high = 1}}},
                                                   {.in = {{.shape = {7}, .values = {-1, 0.5, -0.25, 2, -3, 1, 0.125}}}}},
                                      .reuse = {{.output = 0, .input = 0}}}};
const ElementwiseKernel<Relu> relu_kernel{"Relu"};

const Registered<Op> relu_grad_op{"ReluGrad", {.infer = same_as_both,
                                               .gradient = [](const Backward& b) -> std::vector<Value> {
                                                 return {b.graph.add("ReluGrad", {b.dy(), b.x(1)}), {}};
                                               },
                                               .examples = {{.in = {{.shape = {2, 3}}, {.shape = {2, 3}, .values = {1, 0, 2, 0, 3, 0.5}}}}},
                                               .reuse = {{.output = 0, .input = 0}}}};
const ElementwiseKernel<ReluGrad> relu_grad_kernel{"ReluGrad"};

}  // namespace
}  // namespace cohort
