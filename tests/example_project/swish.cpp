// Swish: x·σ(x) (Ramachandran, Zoph and Le 2017, "Searching for activation functions"), an op in one file.
#include <cmath>

#include <cohort/cohort.hpp>

namespace {

struct Swish {
  COHORT_HD float operator()(float x) const { return x / (1.f + std::exp(-x)); }
};

const cohort::Registered<cohort::Op> swish_op{
    "Swish",
    {.infer = cohort::same_as_first,
     // y' = σ(x) + y (1 − σ(x))
     .gradient = [](const cohort::Backward& b) -> std::vector<cohort::Value> {
       const cohort::Value s = cohort::sigmoid(b.x(0));
       return {b.dy() * (s + b.y() * (b.graph.constant(1.f) - s))};
     },
     .examples = {{.in = {{.shape = {3, 5}, .low = -4, .high = 4}}}}}};
const cohort::ElementwiseKernel<Swish> swish_kernel{"Swish"};

}  // namespace
