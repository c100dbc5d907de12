// Matrix products and fully connected layers.
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

Shape followed_by(Shape batch, std::int64_t rows, std::int64_t columns) {
  batch.append(rows);
  batch.append(columns);
  return batch;
}
Shape without_last_two(Shape shape) {
  shape.erase(shape.rank() - 1);
  shape.erase(shape.rank() - 1);
  return shape;
}

SweepCase drawn_product(Draw& draw) {
  const bool ta = draw.chance(0.4), tb = draw.chance(0.4);
  const std::int64_t m = draw.size(), k = draw.size(), n = draw.size();
  const Shape batch = draw.chance() ? Shape{} : draw.shape(1, 2);
  Shape of_a = batch, of_b = batch;
  if (draw.chance()) (draw.chance() ? of_a : of_b) = draw_broadcast(draw, batch);
  if (draw.chance(0.3)) of_b = {};                    // one matrix for all
  draw.work(static_cast<double>(batch.elements() * m * n * k));
  SweepCase one{.in = {draw.floats(followed_by(of_a, ta ? k : m, ta ? m : k)),
                       draw.floats(followed_by(of_b, tb ? n : k, tb ? k : n))}};
  if (ta || draw.chance()) one.attrs.set("transpose_a", ta);
  if (tb || draw.chance()) one.attrs.set("transpose_b", tb);
  return one;
}

std::vector<Result> product(const SweepCase& one, const std::vector<Scalars>& in) {
  const bool ta = one.attrs.get("transpose_a", false), tb = one.attrs.get("transpose_b", false);
  const Shape &a = one.in[0].shape, &b = one.in[1].shape, of_a = without_last_two(a), of_b = without_last_two(b);
  const std::int64_t m = a[ta ? -1 : -2], k = a[ta ? -2 : -1], n = b[tb ? -2 : -1];
  const Shape batch = broadcast(of_a, of_b).value();
  Result y{followed_by(batch, m, n)};
  for (std::int64_t s = 0; s < batch.elements(); ++s) {
    const Index at = index_of(batch, s);
    const std::int64_t first_a = broadcast_position(of_a, at) * m * k, first_b = broadcast_position(of_b, at) * k * n;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        Scalar sum;
        for (std::int64_t l = 0; l < k; ++l) {
          sum += in[0][first_a + (ta ? l * m + i : i * k + l)] * in[1][first_b + (tb ? j * k + l : l * n + j)];
        }
        y.values.push_back(sum);
      }
    }
  }
  return {y};
}
const Registered<Sweep> matmul{"MatMul", {.draw = drawn_product, .formula = product}};

SweepCase drawn_dense(Draw& draw) {
  Shape x = draw.shape(2, draw.chance(0.7) ? 2 : 4);
  const std::int64_t units = draw.size();
  draw.work(static_cast<double>(x.elements() * units));
  const std::string activation = draw.one_of<std::string>({"none", "relu", "tanh", "sigmoid", "gelu"});
  SweepCase one{.in = {draw.floats(x), draw.floats({x[-1], units}), draw.floats({units})}};
  if (activation != "none" || draw.chance()) one.attrs.set("activation", activation);
  return one;
}

/// gelu'(z) = Φ(z) + z φ(z), itself something that gradients are taken of.
Scalar gelu_slope(const Scalar& z) {
  return 0.5 * (1.0 + erf(z * 0.70710678118654752)) + z * 0.39894228040143268 * exp(-0.5 * z * z);
}

std::vector<Result> dense(const SweepCase& one, const std::vector<Scalars>& in) {
  const Shape& x = one.in[0].shape;
  const std::int64_t k = x[-1], units = one.in[2].shape[0];
  const std::string activation = one.attrs.get<std::string>("activation", "none");
  Shape shape = x;
  shape.set(-1, units);
  Result y{shape}, slope{shape};
  for (std::int64_t i = 0; i < x.rows(); ++i) {
    for (std::int64_t j = 0; j < units; ++j) {
      Scalar z = in[2][j];
      for (std::int64_t l = 0; l < k; ++l) z += in[0][i * k + l] * in[1][l * units + j];
      if (activation == "relu") z = relu(z);
      if (activation == "tanh") z = tanh(z);
      if (activation == "sigmoid") z = sigmoid(z);
      if (activation == "gelu") slope.values.push_back(gelu_slope(z));
      y.values.push_back(activation == "gelu" ? gelu(z) : z);
    }
  }
  if (activation == "gelu") return {y, slope};
  return {y};
}
const Registered<Sweep> dense_layer{
    "Dense", {.draw = drawn_dense, .formula = dense, .covers = {"DenseActivationGrad", "DenseBiasGrad"}}};

}  // namespace
}  // namespace cohort::test
