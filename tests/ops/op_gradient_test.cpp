// The gradient of every example of every differentiable op against central differences of a random projection of its
// outputs: float32 kernels, float64 sums.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ops/op_cases.hpp"

namespace cohort::test {
namespace {

constexpr float kStep = 0x1p-7f;        // truncation ~ step² f''' / 6, rounding ~ 6e-8 f / step
constexpr double kTolerance = 4e-3;     // of the largest gradient, at least 1

class OpGradient : public testing::TestWithParam<std::string> {};

/// Σ weights · outputs for the present contents of the fed tensors.
class Projection {
 public:
  Projection(const OpCase& op_case, CaseGraph& built)
      : built_(built), session_(built.graph), step_(session_.prepare(built.outputs, built.feed_shapes())) {
    for (std::size_t k = 0; k < built.outputs.size(); ++k) {
      weights_.push_back(op_case.weights(k, built.outputs[k].shape().elements()));
    }
  }

  double operator()() {
    step_.run(built_.tensors);
    double sum = 0;
    for (std::size_t k = 0; k < weights_.size(); ++k) {
      if (built_.outputs[k].dtype() != DType::float32) continue;
      const std::vector<double> y = to_doubles(step_.fetch(k));
      for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * static_cast<double>(weights_[k][i]);
    }
    return sum;
  }

  double slope(float& x, float step) {
    const float before = x, high = before + step, low = before - step;
    x = high;
    const double above = (*this)();
    x = low;
    const double below = (*this)();
    x = before;
    return (above - below) / (static_cast<double>(high) - static_cast<double>(low));
  }

 private:
  CaseGraph& built_;
  Session session_;
  Step& step_;
  std::vector<std::vector<float>> weights_;
};

void check_case(const OpCase& op_case) {
  SCOPED_TRACE(op_case.text());
  CaseGraph built(op_case);
  if (built.gradients.empty()) return;                       // no float input or output
  Session session(built.graph);
  const std::vector<Tensor> analytic = session.run(built.gradients, built.feeds());
  Projection projection(op_case, built);
  for (std::size_t g = 0; g < analytic.size(); ++g) {
    const std::size_t i = built.float_inputs[g];
    ASSERT_EQ(analytic[g].shape(), built.tensors[i].shape());
    const std::vector<double> dx = to_doubles(analytic[g]);
    double scale = 1;
    for (const double d : dx) scale = std::max(scale, std::fabs(d));
    for (std::size_t k = 0; k < dx.size(); ++k) {
      float& x = built.tensors[i].data<float>()[k];
      double slope = projection.slope(x, kStep);
      if (!(std::fabs(slope - dx[k]) < kTolerance * scale)) slope = projection.slope(x, kStep / 8);   // a kink nearby?
      ASSERT_NEAR(dx[k], slope, kTolerance * scale) << "input " << i << ", element " << k;
    }
  }
}

TEST_P(OpGradient, MatchesFiniteDifferences) {
  const Op& op = Registry<Op>::instance().get(GetParam());
  if (op.gradient == nullptr) GTEST_SKIP() << GetParam() << " is not differentiable";
  for (const OpCase& op_case : cases_of(GetParam())) check_case(op_case);
}

INSTANTIATE_TEST_SUITE_P(Registry, OpGradient, testing::ValuesIn(generic_ops()),
                         [](const auto& of) { return of.param; });

}  // namespace
}  // namespace cohort::test
