#include "cohort/graph/layers.hpp"

#include <array>

namespace cohort::nn {
namespace {

constexpr std::array<const char*, 5> kActivations = {"none", "relu", "tanh", "sigmoid", "gelu"};

std::int64_t known_last(Value x, std::string_view name) {
  if (x.shape().rank() == 0 || x.shape()[-1] == Shape::kUnknown) {
    fail(Code::invalid_argument,
         "layer '" + std::string(name) + "': the last dimension of its input " + x.signature().text() + " must be known");
  }
  return x.shape()[-1];
}

}  // namespace

Value dense(Value x, std::int64_t units, std::string_view name, const DenseOptions& options) {
  Graph& g = *x.graph;
  const Scope scope = g.name_scope(name);
  const char* init = options.activation == Activation::relu ? "he_normal" : "glorot_uniform";
  const Value weight = g.variable("weight", {known_last(x, name), units}, init, options.gain);
  if (!options.bias) {
    check(options.activation == Activation::none, Code::invalid_argument,
          "layer '" + std::string(name) + "': an activation needs a layer with a bias");
    return matmul(x, weight);
  }
  const Value bias = g.variable("bias", {units}, "zeros");
  return g.add("Dense", {x, weight, bias}, {{"activation", kActivations[static_cast<std::size_t>(options.activation)]}}, "dense");
}

Value dense(Value x, std::int64_t units, std::string_view name, Activation activation) {
  return dense(x, units, name, DenseOptions{.activation = activation});
}

Value embedding(Value indices, std::int64_t count, std::int64_t width, std::string_view name, double deviation) {
  Graph& g = *indices.graph;
  const Scope scope = g.name_scope(name);
  return gather(g.variable("weight", {count, width}, "normal", deviation), indices);
}

Value layer_norm(Value x, std::string_view name, float epsilon) {
  Graph& g = *x.graph;
  const Scope scope = g.name_scope(name);
  const Shape columns{known_last(x, name)};
  const Value scale = g.variable("scale", columns, "ones"), offset = g.variable("offset", columns, "zeros");
  return g.add("LayerNorm", {x, scale, offset}, {{"epsilon", epsilon}}, "layer_norm");
}

ResidualNorm residual_layer_norm(Value residual, Value branch, std::string_view name, float epsilon) {
  Graph& g = *residual.graph;
  const Scope scope = g.name_scope(name);
  const Shape columns{known_last(residual, name)};
  const Value scale = g.variable("scale", columns, "ones"), offset = g.variable("offset", columns, "zeros");
  const Node both = g.add("ResidualLayerNorm", {residual, branch, scale, offset}, {{"epsilon", epsilon}}, "layer_norm");
  return {.sum = both[3], .normal = both[0]};
}

Value attention(Value x, std::int64_t heads, std::string_view name, const AttentionOptions& options) {
  Graph& g = *x.graph;
  const Scope scope = g.name_scope(name);
  const std::int64_t width = known_last(x, name);
  if (heads < 1 || width % heads != 0) {
    fail(Code::invalid_argument, "layer '" + std::string(name) + "': " + std::to_string(heads) + " heads do not divide " +
                                     std::to_string(width) + " columns");
  }
  const Value mixed = cohort::attention(dense(x, 3 * width, "qkv"), heads, options.causal);
  return dense(mixed, width, "output", {.gain = options.output_gain});
}

Value lstm(Value x, std::int64_t units, std::string_view name) {
  Graph& g = *x.graph;
  const Scope scope = g.name_scope(name);
  const Value gates = dense(x, 4 * units, "input");
  return g.add("Lstm", {gates, g.variable("recurrent", {units, 4 * units}, "glorot_uniform")}, {}, "lstm");
}

Value conv2d(Value x, std::int64_t filters, std::int64_t size, std::string_view name, const ConvOptions& options) {
  Graph& g = *x.graph;
  const Scope scope = g.name_scope(name);
  const std::int64_t channels = known_last(x, name);
  if (options.groups < 1 || channels % options.groups != 0 || filters % options.groups != 0) {
    fail(Code::invalid_argument, "layer '" + std::string(name) + "': " + std::to_string(options.groups) +
                                     " groups do not divide " + std::to_string(channels) + " channels and " +
                                     std::to_string(filters) + " filters");
  }
  const Value weight = g.variable("weight", {size, size, channels / options.groups, filters}, "he_normal");
  std::vector<Value> inputs{x, weight};
  if (options.bias) inputs.push_back(g.variable("bias", {filters}, "zeros"));
  return g.add("Conv2D", inputs,
               {{"stride", options.stride}, {"padding", std::string(options.padding)}, {"dilation", options.dilation},
                {"groups", options.groups}},
               "conv2d");
}

Value batch_norm(Value x, bool training, std::string_view name, const BatchNormOptions& options) {
  Graph& g = *x.graph;
  const Scope scope = g.name_scope(name);
  const std::int64_t channels = known_last(x, name);
  const Value scale = g.variable("scale", {channels}, "ones");
  const Value offset = g.variable("offset", {channels}, "zeros");
  const Value running_mean = g.variable("running_mean", {channels}, "zeros", 1.0, false);
  const Value running_variance = g.variable("running_variance", {channels}, "ones", 1.0, false);
  std::vector<Value> inputs{x, scale, offset};
  Attrs attrs{{"epsilon", options.epsilon}, {"relu", options.relu}};
  if (!training) inputs.insert(inputs.end(), {running_mean, running_variance});
  if (options.add) inputs.push_back(options.add);
  if (!training) return g.add("BatchNormInference", inputs, attrs, "batch_norm");
  attrs.set("over_replicas", options.over_replicas);
  const Node y = g.add("BatchNormTraining", inputs, attrs, "batch_norm");
  g.add_update(g.add("MoveTowards", {running_mean, y[1]}, {{"decay", options.decay}}, "running_mean_update"));
  g.add_update(g.add("MoveTowards", {running_variance, y[2]}, {{"decay", options.decay}}, "running_variance_update"));
  return y;
}

Value group_norm(Value x, std::int64_t groups, std::string_view name, float epsilon) {
  Graph& g = *x.graph;
  const Scope scope = g.name_scope(name);
  const std::int64_t channels = known_last(x, name);
  const Value scale = g.variable("scale", {channels}, "ones"), offset = g.variable("offset", {channels}, "zeros");
  return g.add("GroupNorm", {x, scale, offset}, {{"groups", groups}, {"epsilon", epsilon}}, "group_norm");
}

Value dropout(Value x, float rate, bool training) { return training && rate > 0 ? cohort::dropout(x, rate) : x; }

}  // namespace cohort::nn
