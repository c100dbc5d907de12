// Elementwise activations. The derivative of each is written in terms of what is cheapest to keep.
#include <cmath>

#include "cohort/exec/elementwise_kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/tensor/vector_math.hpp"

namespace cohort {
namespace {

/// NaN stays NaN: NaN > 0 is false, but so is NaN <= 0.
struct Relu {
  COHORT_HD float operator()(float x) const { return x <= 0.f ? 0.f : x; }
};
/// d/dx from the result: 1 where y > 0 (and where it is NaN, as in PyTorch).
struct ReluGrad {
  COHORT_HD float operator()(float dy, float y) const { return y <= 0.f ? 0.f : dy; }
};
struct Tanh {
  COHORT_HD float operator()(float x) const { return vec::tanh(x); }
};
struct TanhGrad {
  COHORT_HD float operator()(float dy, float y) const { return dy * (1.f - y * y); }
};
struct Sigmoid {
  COHORT_HD float operator()(float x) const { return vec::sigmoid(x); }
};
struct SigmoidGrad {
  COHORT_HD float operator()(float dy, float y) const { return dy * y * (1.f - y); }
};
/// x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016, eq. 1, not its approximations).
struct Gelu {
  COHORT_HD float operator()(float x) const { return 0.5f * x * (1.f + vec::erf(x * 0.70710678118654752f)); }
};
/// Φ(x) + x φ(x).
struct GeluGrad {
  COHORT_HD float operator()(float dy, float x) const {
    const float cumulative = 0.5f * (1.f + vec::erf(x * 0.70710678118654752f));
    return dy * (cumulative + x * 0.39894228040143268f * vec::exp(-0.5f * x * x));
  }
};
/// ln(1 + e^x), written so that neither side overflows.
struct Softplus {
  COHORT_HD float operator()(float x) const { return std::fmax(x, 0.f) + std::log1p(vec::exp(-std::fabs(x))); }
};

const Registered<Op> relu_op{
    "Relu",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("ReluGrad", {b.dy(), b.y()})};
     },
     .examples = {{.in = {{.shape = {3, 5}, .low = 0.1, .high = 1}}},
                  {.in = {{.shape = {7}, .values = {-1, 0.5, -0.25, 2, -3, 1, 0.125}}}}},
     .reuse = {{.output = 0, .input = 0}}}};
const ElementwiseKernel<Relu> relu_kernel{"Relu"};

const Registered<Op> relu_grad_op{
    "ReluGrad",
    {.infer = same_as_both,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("ReluGrad", {b.dy(), b.x(1)}), {}};
     },
     .examples = {{.in = {{.shape = {2, 3}}, {.shape = {2, 3}, .values = {1, -0.5, 2, -1, 3, 0.5}}}}},
     .reuse = {{.output = 0, .input = 0}}}};
const ElementwiseKernel<ReluGrad> relu_grad_kernel{"ReluGrad"};

std::vector<Example> examples(double low, double high) {
  std::vector<Example> result;
  for (const Shape& shape : {Shape{3, 5}, Shape{1, 17}, Shape{}, Shape{0, 4}}) {
    result.push_back({.in = {{.shape = shape, .low = low, .high = high}}});
  }
  return result;
}

const std::vector<Reuse> kInPlace{{.output = 0, .input = 0}};

const Registered<Op> tanh_op{
    "Tanh",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("TanhGrad", {b.dy(), b.y()})};
     },
     .examples = examples(-3, 3),
     .reuse = kInPlace}};
const ElementwiseKernel<Tanh> tanh_kernel{"Tanh"};

const Registered<Op> tanh_grad_op{
    "TanhGrad",
    {.infer = same_as_both,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("TanhGrad", {b.dy(), b.x(1)}), b.dy() * b.x(0) * b.x(1) * -2.f};
     },
     .examples = {{.in = {{.shape = {2, 5}}, {.shape = {2, 5}}}}},
     .reuse = kInPlace}};
const ElementwiseKernel<TanhGrad> tanh_grad_kernel{"TanhGrad"};

const Registered<Op> sigmoid_op{
    "Sigmoid",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("SigmoidGrad", {b.dy(), b.y()})};
     },
     .examples = examples(-5, 5),
     .reuse = kInPlace}};
const ElementwiseKernel<Sigmoid> sigmoid_kernel{"Sigmoid"};

const Registered<Op> sigmoid_grad_op{
    "SigmoidGrad",
    {.infer = same_as_both,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       const Value slope = b.graph.constant(1.f) - b.x(1) * 2.f;
       return {b.graph.add("SigmoidGrad", {b.dy(), b.x(1)}), b.dy() * b.x(0) * slope};
     },
     .examples = {{.in = {{.shape = {2, 5}}, {.shape = {2, 5}, .low = 0}}}},
     .reuse = kInPlace}};
const ElementwiseKernel<SigmoidGrad> sigmoid_grad_kernel{"SigmoidGrad"};

const Registered<Op> gelu_op{
    "Gelu",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("GeluGrad", {b.dy(), b.x(0)})};
     },
     .examples = examples(-3, 3),
     .reuse = kInPlace}};
const ElementwiseKernel<Gelu> gelu_kernel{"Gelu"};

const Registered<Op> gelu_grad_op{
    "GeluGrad",
    {.infer = same_as_both,
     .examples = {{.in = {{.shape = {2, 5}}, {.shape = {2, 5}, .low = -3, .high = 3}}}},
     .reuse = kInPlace}};
const ElementwiseKernel<GeluGrad> gelu_grad_kernel{"GeluGrad"};

const Registered<Op> softplus_op{
    "Softplus",
    {.infer = same_as_first,
     .gradient = [](const Backward& b) -> std::vector<Value> { return {b.dy() * sigmoid(b.x(0))}; },
     .examples = examples(-8, 8),
     .reuse = kInPlace}};
const ElementwiseKernel<Softplus> softplus_kernel{"Softplus"};

}  // namespace
}  // namespace cohort
