// Normalisations: over the batch, over groups of channels, over rows.
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

struct Moments {
  Scalar mean, squares;        // squares: Σ (x − mean)²
};
/// Of some numbers; NaN of none.
template <class X>
Moments moments_of(std::int64_t n, X x) {
  Scalar sum, squares;
  for (std::int64_t i = 0; i < n; ++i) sum += x(i);
  const Scalar mean = n == 0 ? Scalar(kNotANumber) : sum / static_cast<double>(n);
  for (std::int64_t i = 0; i < n; ++i) squares += (x(i) - mean) * (x(i) - mean);
  return {mean, n == 0 ? Scalar(kNotANumber) : squares};
}

double epsilon_of(const SweepCase& one) { return static_cast<double>(static_cast<float>(one.attrs.get<double>("epsilon"))); }
bool relu_of(const SweepCase& one) { return one.attrs.get("relu", false); }

/// Images [..., c] and vectors [c].
SweepCase drawn_batch_norm(Draw& draw, bool training) {
  const Shape x = draw.shape(2, 4), channels{x[-1]};
  SweepCase one{.in = {draw.floats(x, -2, 2), draw.floats(channels), draw.floats(channels)},
                .attrs = {{"epsilon", draw.one_of<double>({1e-3, 1e-2, 0.1})}}};
  if (!training) {
    one.in.push_back(draw.floats(channels));
    one.in.push_back(draw.floats(channels, 0.1, 2));
  }
  if (draw.chance(0.4)) one.in.push_back(draw.floats(x));      // added before the activation
  if (draw.chance()) one.attrs.set("relu", draw.chance());
  if (training && draw.chance(0.2)) one.attrs.set("over_replicas", true);      // this one is all of them
  return one;
}

std::vector<Result> batch_norm(const SweepCase& one, const std::vector<Scalars>& in, const Scalars& mean,
                               const Scalars& variance, const Scalars* added) {
  const Shape& x = one.in[0].shape;
  Result y{x};
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    const std::int64_t k = i % x.columns();
    Scalar z = in[1][k] * (in[0][i] - mean[k]) / sqrt(variance[k] + epsilon_of(one)) + in[2][k];
    if (added != nullptr) z += (*added)[i];
    y.values.push_back(relu_of(one) ? relu(z) : z);
  }
  return {y};
}

std::vector<Result> batch_norm_training(const SweepCase& one, const std::vector<Scalars>& in) {
  const Shape& x = one.in[0].shape;
  const std::int64_t rows = x.rows(), channels = x.columns();
  const auto n = static_cast<double>(rows);
  Scalars biased;
  Result mean{{channels}}, unbiased{{channels}};
  for (std::int64_t k = 0; k < channels; ++k) {
    const Moments m = moments_of(rows, [&](std::int64_t i) { return in[0][i * channels + k]; });
    mean.values.push_back(m.mean);
    biased.push_back(m.squares / n);
    unbiased.values.push_back(rows == 1 ? Scalar(0) : m.squares / (n - 1));
  }
  auto results = batch_norm(one, in, mean.values, biased, in.size() == 4 ? &in[3] : nullptr);
  results.insert(results.end(), {mean, unbiased});
  return results;
}

const Registered<Sweep> training{
    "BatchNormTraining", {.draw = [](Draw& draw) { return drawn_batch_norm(draw, true); }, .formula = batch_norm_training,
                          .covers = {"BatchNormTrainingGrad"}, .tolerance = 5e-5}};
const Registered<Sweep> inference{"BatchNormInference",
                                  {.draw = [](Draw& draw) { return drawn_batch_norm(draw, false); },
                                   .formula =
                                       [](const SweepCase& one, const std::vector<Scalars>& in) {
                                         return batch_norm(one, in, in[3], in[4], in.size() == 6 ? &in[5] : nullptr);
                                       },
                                   .covers = {"BatchNormInferenceGrad"},
                                   .tolerance = 5e-5}};

const Registered<Sweep> group_norm{
    "GroupNorm",
    {.draw =
         [](Draw& draw) {
           Shape x = draw.shape(2, 4);
           const std::int64_t groups = draw.chance(0.3) ? 1 : draw.between(1, 5), each = draw.between(0, 9);
           x.set(-1, groups * each);
           return SweepCase{.in = {draw.floats(x, -2, 2), draw.floats({x[-1]}), draw.floats({x[-1]})},
                            .attrs = {{"groups", groups}, {"epsilon", draw.one_of<double>({1e-3, 1e-2, 0.1})}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& x = one.in[0].shape;
           const std::int64_t channels = x.columns(), each = channels / one.attrs.get<std::int64_t>("groups");
           const std::int64_t pixels = x[0] == 0 ? 0 : x.rows() / x[0];
           Result y{x, zeros(x)};
           for (std::int64_t n = 0; n < x[0]; ++n) {
             for (std::int64_t first = 0; first < channels; first += each) {
               const auto at = [&](std::int64_t i) { return (n * pixels + i / each) * channels + first + i % each; };
               const Moments m = moments_of(pixels * each, [&](std::int64_t i) { return in[0][at(i)]; });
               const Scalar sigma = sqrt(m.squares / static_cast<double>(pixels * each) + one.attrs.get<double>("epsilon"));
               for (std::int64_t i = 0; i < pixels * each; ++i) {
                 const std::int64_t k = at(i) % channels;
                 y.values[at(i)] = in[1][k] * (in[0][at(i)] - m.mean) / sigma + in[2][k];
               }
             }
           }
           return std::vector<Result>{y};
         },
     .covers = {"GroupNormGrad"},
     .tolerance = 5e-5}};

SweepCase drawn_layer_norm(Draw& draw, bool residual) {
  const Shape x = draw.shape(1, 3), columns{x[-1]};
  SweepCase one{.in = {draw.floats(x, -2, 2)}, .attrs = {{"epsilon", draw.one_of<double>({1e-3, 1e-2, 0.1})}}};
  if (residual) one.in.push_back(draw.floats(x));
  for (int i = 0; i < 2; ++i) one.in.push_back(draw.floats(columns));
  return one;
}

std::vector<Result> layer_norm(const SweepCase& one, const Scalars& x, const Scalars& scale, const Scalars& offset) {
  const Shape& shape = one.in[0].shape;
  const std::int64_t columns = shape.columns();
  Shape rows = shape;
  rows.erase(rows.rank() - 1);
  Result y{shape}, mean{rows}, inverse{rows};
  for (std::int64_t i = 0; i < shape.rows(); ++i) {
    const Moments m = moments_of(columns, [&](std::int64_t j) { return x[i * columns + j]; });
    mean.values.push_back(m.mean);
    inverse.values.push_back(1.0 / sqrt(m.squares / static_cast<double>(columns) + epsilon_of(one)));
    for (std::int64_t j = 0; j < columns; ++j) {
      y.values.push_back((x[i * columns + j] - m.mean) * inverse.values.back() * scale[j] + offset[j]);
    }
  }
  return {y, mean, inverse};
}

const Registered<Sweep> plain{"LayerNorm", {.draw = [](Draw& draw) { return drawn_layer_norm(draw, false); },
                                            .formula =
                                                [](const SweepCase& one, const std::vector<Scalars>& in) {
                                                  return layer_norm(one, in[0], in[1], in[2]);
                                                },
                                            .covers = {"LayerNormGrad"},
                                            .tolerance = 5e-5}};
const Registered<Sweep> residual{"ResidualLayerNorm", {.draw = [](Draw& draw) { return drawn_layer_norm(draw, true); },
                                                       .formula =
                                                           [](const SweepCase& one, const std::vector<Scalars>& in) {
                                                             Result sum{one.in[0].shape};
                                                             for (std::size_t i = 0; i < in[0].size(); ++i) {
                                                               sum.values.push_back(in[0][i] + in[1][i]);
                                                             }
                                                             auto results = layer_norm(one, sum.values, in[2], in[3]);
                                                             results.push_back(sum);
                                                             return results;
                                                           },
                                                       .covers = {"LayerNormGrad"},
                                                       .tolerance = 5e-5}};

}  // namespace
}  // namespace cohort::test
