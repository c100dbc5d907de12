// Softmax over the last axis, and the cross-entropy of its result.
#include <algorithm>

#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

/// Row i of x: its elements without the largest (a constant, since softmax does not change), and ln Σ exp.
struct Row {
  Scalars x;
  Scalar log_sum;
};
Row row_of(const Scalars& x, std::int64_t i, std::int64_t columns) {
  Row row{{x.begin() + i * columns, x.begin() + (i + 1) * columns}, {}};
  if (row.x.empty()) return row;
  const double most =
      std::max_element(row.x.begin(), row.x.end(), [](auto& a, auto& b) { return a.value() < b.value(); })->value();
  Scalar sum;
  for (Scalar& value : row.x) {
    value = value - most;
    sum += exp(value);
  }
  row.log_sum = log(sum);
  return row;
}

SweepCase drawn_rows(Draw& draw) {
  const double range = draw.chance(0.8) ? 4 : 30;
  return {.in = {draw.floats(draw.shape(1, 3), -range, range)}};
}

template <class F>
auto each(F f) {
  return [f](const SweepCase& one, const std::vector<Scalars>& in) {
    const Shape& x = one.in[0].shape;
    Result y{x};
    for (std::int64_t i = 0; i < x.rows(); ++i) {
      const Row row = row_of(in[0], i, x.columns());
      for (const Scalar& value : row.x) y.values.push_back(f(value - row.log_sum));
    }
    return std::vector<Result>{y};
  };
}

const Registered<Sweep> softmax{
    "Softmax", {.draw = drawn_rows, .formula = each([](const Scalar& x) { return exp(x); }), .covers = {"SoftmaxGrad"}}};
const Registered<Sweep> log_softmax{
    "LogSoftmax", {.draw = drawn_rows, .formula = each([](const Scalar& x) { return x; }), .covers = {"LogSoftmaxGrad"}}};

const Registered<Sweep> cross_entropy{
    "SoftmaxCrossEntropy",
    {.draw =
         [](Draw& draw) {
           SweepCase one = drawn_rows(draw);
           Shape rows = one.in[0].shape;
           rows.erase(rows.rank() - 1);
           one.in.push_back(draw.whole(rows, DType::int32, 0, one.in[0].shape[-1] - 1));
           if (draw.chance()) one.attrs.set("label_smoothing", draw.chance() ? 0.0 : draw.uniform(0, 0.9));
           return one;
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& x = one.in[0].shape;
           const double smoothing = one.attrs.get("label_smoothing", 0.0);
           Result y{one.in[1].shape};
           for (std::int64_t i = 0; i < y.shape.elements(); ++i) {
             const Row row = row_of(in[0], i, x.columns());
             Scalar loss;
             for (std::int64_t k = 0; k < x.columns(); ++k) {
               const double wanted = (static_cast<double>(k) == in[1][i].value() ? 1 - smoothing : 0) +
                                     smoothing / static_cast<double>(x.columns());
               if (wanted > 0) loss += wanted * (row.log_sum - row.x[k]);
             }
             y.values.push_back(loss);
           }
           return std::vector<Result>{y};
         },
     .covers = {"SoftmaxCrossEntropyGrad"}}};

}  // namespace
}  // namespace cohort::test
