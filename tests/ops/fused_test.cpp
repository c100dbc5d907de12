// Every op that does in one pass what small ops do one after the other, against those small ops: results and gradients of
// all inputs, on one thread and on three.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/run_node.hpp"

namespace cohort::test {
namespace {

using Values = std::vector<Value>;

struct Input {
  Shape shape;
  std::int64_t below = 0;       // 0: float32 in [-1, 1), else int32 in [0, below)
};

/// Both ways from the same inputs to the same outputs. `tolerance`: of the largest reference value, or of 1.
struct Fused {
  std::string name;
  std::vector<Input> inputs;
  std::function<Values(Graph&, const Values&)> fused, apart;
  double tolerance = 5e-6;

  friend void PrintTo(const Fused& one, std::ostream* out) { *out << one.name; }
};

std::string text(const std::string& what, std::initializer_list<std::int64_t> sizes) {
  std::string result = what;
  for (const std::int64_t size : sizes) result += "_" + std::to_string(size);
  return result;
}

Value activated(Value x, const std::string& activation) {
  if (activation == "relu") return relu(x);
  if (activation == "tanh") return tanh(x);
  if (activation == "sigmoid") return sigmoid(x);
  if (activation == "gelu") return gelu(x);
  return x;
}

void add_dense(std::vector<Fused>& all) {
  struct Size {
    std::int64_t rows, in, units;
  };
  for (const Size s : {Size{1, 1, 1}, Size{7, 13, 5}, Size{0, 4, 3}, Size{67, 37, 101}, Size{5, 128, 256}}) {
    for (const std::string activation : {"none", "relu", "tanh", "sigmoid", "gelu"}) {
      all.push_back({text("dense_" + activation, {s.rows, s.in, s.units}),
                     {{{s.rows, s.in}}, {{s.in, s.units}}, {{s.units}}},
                     [activation](Graph& g, const Values& x) -> Values {
                       return {g.add("Dense", x, {{"activation", activation}})};
                     },
                     [activation](Graph&, const Values& x) -> Values {
                       return {activated(matmul(x[0], x[1]) + x[2], activation)};
                     }});
    }
  }
  all.push_back({"embedding_3_5_11_7",
                 {{{11, 7}}, {{3, 5}, 11}},
                 [](Graph&, const Values& x) -> Values { return {gather(x[0], x[1])}; },
                 [](Graph&, const Values& x) -> Values { return {matmul(one_hot(x[1], 11), x[0])}; }});
}

void add_convolutions(std::vector<Fused>& all) {
  struct Size {
    std::int64_t n, height, width, in, filters, size, stride;
    const char* padding;
  };
  for (const Size s : {Size{1, 1, 1, 1, 1, 1, 1, "same"}, Size{2, 9, 7, 3, 5, 3, 1, "same"},
                       Size{3, 8, 11, 1, 6, 5, 1, "valid"}, Size{2, 9, 10, 4, 3, 3, 2, "same"},
                       Size{1, 12, 12, 16, 32, 5, 1, "same"}, Size{0, 6, 6, 2, 3, 3, 1, "same"}}) {
    const std::string name = text(std::string(s.padding), {s.n, s.height, s.width, s.in, s.filters, s.size, s.stride});
    const std::vector<Input> inputs = {{{s.n, s.height, s.width, s.in}}, {{s.size, s.size, s.in, s.filters}}, {{s.filters}}};
    const Attrs attrs{{"stride", s.stride}, {"padding", std::string(s.padding)}, {"dilation", 1}, {"groups", 1}};
    const auto apart = [s](const Values& x) { return conv2d(x[0], x[1], s.stride, s.padding) + x[2]; };
    all.push_back({"conv_bias_" + name, inputs,
                   [attrs](Graph& g, const Values& x) -> Values { return {g.add("Conv2D", x, attrs)}; },
                   [apart](Graph&, const Values& x) -> Values { return {apart(x)}; }});
    if (s.height < 4) continue;
    all.push_back({"conv_bias_relu_pool_" + name, inputs,
                   [attrs](Graph& g, const Values& x) -> Values {
                     return {max_pool(relu(g.add("Conv2D", x, attrs)), 2, 2)};
                   },
                   [apart](Graph& g, const Values& x) -> Values {
                     return {g.add("MaxPool", {relu(apart(x))},
                                   {{"size", 2}, {"stride", 2}, {"padding", std::string("valid")}, {"relu", false}})};
                   }});
  }
}

Value normalised(Value x, std::vector<std::int64_t> axes, Value scale, Value offset) {
  const Value centred = x - mean(x, axes, true);
  return centred / sqrt(mean(square(centred), std::move(axes), true) + 1e-5f) * scale + offset;
}

void add_batch_norms(std::vector<Fused>& all) {
  for (const Shape& shape : {Shape{2, 1}, Shape{5, 3}, Shape{3, 7, 5, 6}, Shape{131, 17}, Shape{4, 9, 8, 40}}) {
    for (const bool with_relu : {false, true}) {
      for (const bool with_add : {false, true}) {
        const auto finish = [with_relu, with_add](Value y, const Values& x) {
          if (with_add) y = y + x.back();
          return with_relu ? relu(y) : y;
        };
        const Shape channels{shape[-1]};
        std::string name = std::string(with_add ? "_add" : "") + (with_relu ? "_relu" : "");
        for (const std::int64_t size : shape) name += "_" + std::to_string(size);
        const Attrs attrs{{"epsilon", 1e-5f}, {"relu", with_relu}};
        std::vector<Input> inputs{{shape}, {channels}, {channels}};
        if (with_add) inputs.push_back({shape});
        all.push_back({"batch_norm" + name, inputs,
                       [attrs](Graph& g, const Values& x) -> Values { return {g.add("BatchNormTraining", x, attrs)}; },
                       [finish, last = static_cast<std::int64_t>(shape.rank()) - 1](Graph&, const Values& x) -> Values {
                         std::vector<std::int64_t> axes;
                         for (std::int64_t axis = 0; axis < last; ++axis) axes.push_back(axis);
                         return {finish(normalised(x[0], axes, x[1], x[2]), x)};
                       },
                       2e-5});
        inputs.insert(inputs.begin() + 3, {Input{channels}, Input{channels}});
        // The running variance is a square here, so that it is none below 0.
        all.push_back({"batch_norm_inference" + name, inputs,
                       [attrs](Graph& g, const Values& x) -> Values {
                         Values given = x;
                         given[4] = square(x[4]) + 0.1f;
                         return {g.add("BatchNormInference", given, attrs)};
                       },
                       [finish](Graph&, const Values& x) -> Values {
                         return {finish((x[0] - x[3]) / sqrt(square(x[4]) + 0.1f + 1e-5f) * x[1] + x[2], x)};
                       },
                       2e-5});
      }
    }
  }
}

void add_other_norms(std::vector<Fused>& all) {
  for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>{1, 2}, {7, 13}, {0, 5}, {130, 37}, {3, 256}}) {
    const Input x{{rows, columns}}, row{{columns}};
    all.push_back({text("layer_norm", {rows, columns}),
                   {x, row, row},
                   [](Graph& g, const Values& v) -> Values { return {g.add("LayerNorm", v, {{"epsilon", 1e-5f}})}; },
                   [](Graph&, const Values& v) -> Values { return {normalised(v[0], {1}, v[1], v[2])}; },
                   2e-5});
    all.push_back({text("residual_layer_norm", {rows, columns}),
                   {x, x, row, row},
                   [](Graph& g, const Values& v) -> Values {
                     const Node both = g.add("ResidualLayerNorm", v, {{"epsilon", 1e-5f}});
                     return {both[0], both[3]};
                   },
                   [](Graph&, const Values& v) -> Values {
                     const Value both = v[0] + v[1];
                     return {normalised(both, {1}, v[2], v[3]), both};
                   },
                   2e-5});
  }
  struct Size {
    std::int64_t n, height, width, groups, channels;
  };
  for (const Size s : {Size{1, 1, 1, 1, 2}, Size{3, 5, 7, 2, 6}, Size{2, 4, 4, 5, 35}, Size{0, 3, 3, 2, 4}}) {
    all.push_back({text("group_norm", {s.n, s.height, s.width, s.groups, s.channels}),
                   {{{s.n, s.height, s.width, s.channels}}, {{s.channels}}, {{s.channels}}},
                   [s](Graph& g, const Values& v) -> Values {
                     return {g.add("GroupNorm", v, {{"groups", s.groups}, {"epsilon", 1e-5f}})};
                   },
                   [s](Graph&, const Values& v) -> Values {
                     const std::vector<std::int64_t> grouped{s.groups, s.channels / s.groups};
                     const Value x = reshape(v[0], {s.n, s.height, s.width, grouped[0], grouped[1]});
                     return {reshape(normalised(x, {1, 2, 4}, reshape(v[1], grouped), reshape(v[2], grouped)),
                                     {s.n, s.height, s.width, s.channels})};
                   },
                   2e-5});
  }
}

Value softmax_of(Value x) {
  const Value powers = exp(x - max(x, {-1}, true));
  return powers / sum(powers, {-1}, true);
}

void add_distributions(std::vector<Fused>& all) {
  for (const auto& [rows, classes] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {7, 13}, {0, 5}, {130, 101}, {3, 256}}) {
    const Input x{{rows, classes}};
    all.push_back({text("softmax", {rows, classes}), {x},
                   [](Graph&, const Values& v) -> Values { return {softmax(v[0] * 8)}; },
                   [](Graph&, const Values& v) -> Values { return {softmax_of(v[0] * 8)}; }});
    all.push_back({text("log_softmax", {rows, classes}), {x},
                   [](Graph&, const Values& v) -> Values { return {log_softmax(v[0] * 8)}; },
                   [](Graph&, const Values& v) -> Values { return {log(softmax_of(v[0] * 8))}; }});
    for (const float smoothing : {0.f, 0.1f}) {
      all.push_back({text(smoothing > 0 ? "smoothed_cross_entropy" : "cross_entropy", {rows, classes}),
                     {x, {{rows}, classes}},
                     [smoothing](Graph&, const Values& v) -> Values {
                       return {softmax_cross_entropy(v[0] * 8, v[1], smoothing)};
                     },
                     [smoothing, k = classes](Graph&, const Values& v) -> Values {
                       const Value wanted = one_hot(v[1], k) * (1 - smoothing) + smoothing / static_cast<float>(k);
                       return {-sum(wanted * log(softmax_of(v[0] * 8)), {1})};
                     }});
    }
  }
  const Input x{{53, 19}};
  all.push_back({"sigmoid", {x}, [](Graph&, const Values& v) -> Values { return {sigmoid(v[0] * 8)}; },
                 [](Graph& g, const Values& v) -> Values { return {g.constant(1.f) / (exp(v[0] * -8) + 1)}; }});
  all.push_back({"tanh", {x}, [](Graph&, const Values& v) -> Values { return {tanh(v[0] * 4)}; },
                 [](Graph&, const Values& v) -> Values { return {sigmoid(v[0] * 8) * 2 - 1}; }});
  all.push_back({"softplus", {x}, [](Graph&, const Values& v) -> Values { return {softplus(v[0] * 8)}; },
                 [](Graph&, const Values& v) -> Values { return {log(exp(v[0] * 8) + 1)}; }});
}

void add_attention(std::vector<Fused>& all) {
  struct Size {
    std::int64_t samples, positions, heads, width;
    bool causal;
  };
  for (const Size s : {Size{2, 128, 4, 32, true}, Size{1, 300, 1, 16, true}, Size{2, 131, 2, 5, true},
                       Size{1, 300, 2, 8, false}, Size{1, 129, 1, 1, false}, Size{3, 2, 1, 64, true}, Size{1, 1, 1, 1, true},
                       Size{0, 3, 2, 2, true}}) {
    const auto apart = [s](Graph& g, const Values& v) -> Values {
      const auto part = [&](std::int64_t i) {
        const Value x = slice(v[0] * 3, {0, 0, i * s.heads * s.width}, {-1, -1, s.heads * s.width});
        return transpose(reshape(x, {s.samples, s.positions, s.heads, s.width}), {0, 2, 1, 3});
      };
      const Tensor mask = Tensor::zeros({s.positions, s.positions});
      for (std::int64_t i = 0; s.causal && i < s.positions; ++i) {
        for (std::int64_t j = i + 1; j < s.positions; ++j) mask.data<float>()[i * s.positions + j] = -1e30f;
      }
      const Value scores = matmul(part(0), part(1), false, true) * (1.f / std::sqrt(static_cast<float>(s.width)));
      const Value mixed = matmul(softmax_of(scores + g.constant(mask)), part(2));
      return {reshape(transpose(mixed, {0, 2, 1, 3}), {s.samples, s.positions, s.heads * s.width})};
    };
    all.push_back({text(s.causal ? "causal_attention" : "attention", {s.samples, s.positions, s.heads, s.width}),
                   {{{s.samples, s.positions, 3 * s.heads * s.width}}},
                   [s](Graph&, const Values& v) -> Values { return {attention(v[0] * 3, s.heads, s.causal)}; },
                   apart});
  }
}

void add_lstm(std::vector<Fused>& all) {
  struct Size {
    std::int64_t samples, positions, units;
  };
  for (const Size s : {Size{1, 1, 1}, Size{2, 3, 5}, Size{17, 7, 9}, Size{0, 2, 3}, Size{35, 4, 24}}) {
    const auto apart = [s](Graph& g, const Values& v) -> Values {
      Value h = g.constant(Tensor::zeros({s.samples, s.units})), cell = h;
      Values states;
      for (std::int64_t t = 0; t < s.positions; ++t) {
        const Value a = reshape(slice(v[0], {0, t, 0}, {-1, 1, -1}), {s.samples, 4 * s.units});
        const Values gates = split(a + matmul(h, v[1]), 4, 1);
        cell = sigmoid(gates[1]) * cell + sigmoid(gates[0]) * tanh(gates[2]);
        h = sigmoid(gates[3]) * tanh(cell);
        states.push_back(reshape(h, {s.samples, 1, s.units}));
      }
      return {concat(states, 1)};
    };
    all.push_back({text("lstm", {s.samples, s.positions, s.units}),
                   {{{s.samples, s.positions, 4 * s.units}}, {{s.units, 4 * s.units}}},
                   [](Graph& g, const Values& v) -> Values { return {g.add("Lstm", v)}; },
                   apart});
  }
}

std::vector<Fused> table() {
  std::vector<Fused> all;
  add_dense(all);
  add_convolutions(all);
  add_batch_norms(all);
  add_other_norms(all);
  add_distributions(all);
  add_attention(all);
  add_lstm(all);
  return all;
}

std::vector<double> doubles_of(const Tensor& x) {
  const std::vector<float> values = x.to_vector<float>();
  return {values.begin(), values.end()};
}

class FusedOps : public testing::TestWithParam<Fused> {};

TEST_P(FusedOps, AreTheirPartsOneAfterTheOther) {
  const Fused& one = GetParam();
  const std::uint64_t seed = stream_of(one.name);
  SCOPED_TRACE("seed " + std::to_string(seed));
  Graph g;
  Values inputs, wrt;
  Feeds feeds;
  for (std::size_t i = 0; i < one.inputs.size(); ++i) {
    const auto& [shape, below] = one.inputs[i];
    Tensor tensor = random_tensor(shape, seed + i);
    if (below > 0) {
      tensor = Tensor::zeros(shape, DType::int32);
      for (std::int64_t k = 0; k < shape.elements(); ++k) {
        const auto draw = random_below(static_cast<std::uint64_t>(below), seed, i, static_cast<std::uint64_t>(k));
        tensor.data<std::int32_t>()[k] = static_cast<std::int32_t>(draw);
      }
    }
    inputs.push_back(g.placeholder("x", tensor.dtype(), shape));
    if (below == 0) wrt.push_back(inputs.back());
    feeds.emplace_back(inputs.back(), tensor);
  }
  const auto with_gradients = [&](Values outputs) {      // of a sum with weights that tell all elements apart
    Value loss = g.constant(0.f);
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      loss = loss + sum(outputs[k] * g.constant(random_tensor(outputs[k].shape(), seed + 100 + k)));
    }
    for (const Value gradient : gradients(loss, wrt)) outputs.push_back(gradient);
    return outputs;
  };
  const Values fused = with_gradients(one.fused(g, inputs)), apart = with_gradients(one.apart(g, inputs));
  ASSERT_EQ(fused.size(), apart.size());
  const std::vector<Tensor> wanted = Session(g).run(apart, feeds);
  for (const int threads : {1, 3}) {
    const std::vector<Tensor> results = Session(g, {.threads = threads}).run(fused, feeds);
    for (std::size_t k = 0; k < results.size(); ++k) {
      EXPECT_EQ(results[k].shape(), wanted[k].shape());
      EXPECT_LE(difference(results[k], doubles_of(wanted[k])), one.tolerance)
          << (k + wrt.size() < results.size() ? "output " : "gradient, counted behind the outputs, ") << k << ", " << threads
          << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, FusedOps, testing::ValuesIn(table()), [](const auto& suite) { return suite.param.name; });

}  // namespace
}  // namespace cohort::test
