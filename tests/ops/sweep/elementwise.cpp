// Functions of one value.
#include "cohort/tensor/dtype.hpp"
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

struct Range {
  double low, high;
};

template <class F>
Sweep elementwise(F f, Range range, std::vector<std::string> covers = {}) {
  return {.draw =
              [range](Draw& draw) {
                SweepCase one{.in = {draw.floats(draw.shape(0, 4), range.low, range.high)}};
                draw.with_nan(one.in[0]);
                return one;
              },
          .formula =
              [f](const SweepCase& one, const std::vector<Scalars>& in) {
                Result y{one.in[0].shape};
                for (const Scalar& x : in[0]) y.values.push_back(f(x));
                return std::vector<Result>{y};
              },
          .covers = std::move(covers),
          .tolerance = 3e-6};
}

Scalar abs(const Scalar& x) { return x.value() > 0 ? x : x.value() < 0 ? -x : x.value() * x; }    // 0 or NaN
Scalar sign(const Scalar& x) { return x.value() > 0 ? 1 : x.value() < 0 ? -1 : x.value(); }
Scalar rounded(const Scalar& x) { return static_cast<double>(static_cast<float>(bfloat16(static_cast<float>(x.value())))); }

const Registered<Sweep> all[]{
    {"Relu", elementwise([](const Scalar& x) { return relu(x); }, {-1, 1}, {"ReluGrad"})},
    {"Tanh", elementwise([](const Scalar& x) { return tanh(x); }, {-4, 4}, {"TanhGrad"})},
    {"Sigmoid", elementwise([](const Scalar& x) { return sigmoid(x); }, {-9, 9}, {"SigmoidGrad"})},
    {"Gelu", elementwise([](const Scalar& x) { return gelu(x); }, {-5, 5}, {"GeluGrad"})},
    {"Softplus", elementwise([](const Scalar& x) { return softplus(x); }, {-20, 20})},
    {"Exp", elementwise([](const Scalar& x) { return exp(x); }, {-5, 5})},
    {"Log", elementwise([](const Scalar& x) { return log(x); }, {0.1, 9})},
    {"Sqrt", elementwise([](const Scalar& x) { return sqrt(x); }, {0.1, 9})},
    {"Square", elementwise([](const Scalar& x) { return x * x; }, {-2, 2})},
    {"Abs", elementwise(abs, {-2, 2})},
    {"Sign", elementwise(sign, {-2, 2})},
    {"Neg", elementwise([](const Scalar& x) { return -x; }, {-2, 2})},
    {"RoundToBfloat16", elementwise(rounded, {-9, 9})},
    {"ZerosLike", elementwise([](const Scalar&) { return Scalar(0); }, {-2, 2})},
};

}  // namespace
}  // namespace cohort::test
