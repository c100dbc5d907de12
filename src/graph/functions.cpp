#include "cohort/graph/functions.hpp"

#include <string>

namespace cohort {
namespace {

Value call(std::string_view op, std::vector<Value> inputs, Attrs attrs = {}) {
  for (const Value& input : inputs) check(bool(input), Code::invalid_argument, std::string(op) + ": an input is absent");
  return inputs.front().graph->add(op, inputs, std::move(attrs));
}

Value reduce(std::string_view op, Value x, std::vector<std::int64_t> axes, bool keep_dims) {
  return call(op, {x}, {{"axes", std::move(axes)}, {"keep_dims", keep_dims}});
}

}  // namespace

Value operator+(Value a, Value b) { return call("Add", {a, b}); }
Value operator-(Value a, Value b) { return call("Sub", {a, b}); }
Value operator*(Value a, Value b) { return call("Mul", {a, b}); }
Value operator/(Value a, Value b) { return call("Div", {a, b}); }
Value operator+(Value a, float b) { return a + a.graph->constant(b); }
Value operator-(Value a, float b) { return a - a.graph->constant(b); }
Value operator*(Value a, float b) { return a * a.graph->constant(b); }
Value operator*(float a, Value b) { return b * a; }
Value operator/(Value a, float b) { return a / a.graph->constant(b); }
Value operator-(Value a) { return call("Neg", {a}); }
Value maximum(Value a, Value b) { return call("Maximum", {a, b}); }
Value minimum(Value a, Value b) { return call("Minimum", {a, b}); }

Value exp(Value x) { return call("Exp", {x}); }
Value log(Value x) { return call("Log", {x}); }
Value sqrt(Value x) { return call("Sqrt", {x}); }
Value square(Value x) { return call("Square", {x}); }
Value abs(Value x) { return call("Abs", {x}); }
Value tanh(Value x) { return call("Tanh", {x}); }
Value sigmoid(Value x) { return call("Sigmoid", {x}); }
Value relu(Value x) { return call("Relu", {x}); }
Value gelu(Value x) { return call("Gelu", {x}); }
Value softplus(Value x) { return call("Softplus", {x}); }

Value equal(Value a, Value b) { return call("Equal", {a, b}); }
Value not_equal(Value a, Value b) { return call("NotEqual", {a, b}); }
Value less(Value a, Value b) { return call("Less", {a, b}); }
Value less_equal(Value a, Value b) { return call("LessEqual", {a, b}); }
Value greater(Value a, Value b) { return call("Greater", {a, b}); }
Value greater_equal(Value a, Value b) { return call("GreaterEqual", {a, b}); }
Value select(Value condition, Value a, Value b) { return call("Select", {condition, a, b}); }
Value cast(Value x, DType to) { return call("Cast", {x}, {{"to", to}}); }

Value sum(Value x, std::vector<std::int64_t> axes, bool keep_dims) { return reduce("ReduceSum", x, std::move(axes), keep_dims); }
Value mean(Value x, std::vector<std::int64_t> axes, bool keep_dims) { return reduce("ReduceMean", x, std::move(axes), keep_dims); }
Value max(Value x, std::vector<std::int64_t> axes, bool keep_dims) { return reduce("ReduceMax", x, std::move(axes), keep_dims); }
Value argmax(Value x, std::int64_t axis) { return call("ArgMax", {x}, {{"axis", axis}}); }

Value matmul(Value a, Value b, bool transpose_a, bool transpose_b) {
  return call("MatMul", {a, b}, {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}});
}

Value attention(Value qkv, std::int64_t heads, bool causal) {
  return qkv.graph->add("Attention", {qkv}, {{"heads", heads}, {"causal", causal}});
}

Value softmax(Value x) { return call("Softmax", {x}); }
Value log_softmax(Value x) { return call("LogSoftmax", {x}); }
Value softmax_cross_entropy(Value logits, Value labels, float label_smoothing) {
  return call("SoftmaxCrossEntropy", {logits, labels}, {{"label_smoothing", label_smoothing}});
}
Value mean_squared_error(Value prediction, Value target) { return mean(square(prediction - target)); }
Value accuracy(Value logits, Value labels) {
  const Value most = max(logits, {-1}), right = cast(equal(argmax(logits), labels), DType::float32);
  return mean(select(equal(most, most), right, logits.graph->constant(0.f)));     // NaN equals nothing, not even itself
}

Value reshape(Value x, std::vector<std::int64_t> shape) { return call("Reshape", {x}, {{"shape", std::move(shape)}}); }
Value flatten(Value x) { return call("Flatten", {x}); }
Value transpose(Value x, std::vector<std::int64_t> permutation) {
  return call("Transpose", {x}, {{"permutation", std::move(permutation)}});
}
Value slice(Value x, std::vector<std::int64_t> begin, std::vector<std::int64_t> size) {
  return call("Slice", {x}, {{"begin", std::move(begin)}, {"size", std::move(size)}});
}
Value concat(std::vector<Value> parts, std::int64_t axis) {
  check(!parts.empty(), Code::invalid_argument, "concat of no parts");
  return call("Concat", std::move(parts), {{"axis", axis}});
}
std::vector<Value> split(Value x, std::int64_t parts, std::int64_t axis) {
  const Value first = call("Split", {x}, {{"parts", parts}, {"axis", axis}});
  std::vector<Value> result;
  for (int i = 0; i < parts; ++i) result.push_back({first.graph, first.node, i});
  return result;
}
Value pad(Value x, std::vector<std::int64_t> before, std::vector<std::int64_t> after, float value) {
  return call("Pad", {x}, {{"before", std::move(before)}, {"after", std::move(after)}, {"value", value}});
}
Value gather(Value x, Value indices) { return call("Gather", {x, indices}); }
Value one_hot(Value indices, std::int64_t depth) { return call("OneHot", {indices}, {{"depth", depth}}); }

Value conv2d(Value x, Value filter, std::int64_t stride, std::string_view padding, std::int64_t dilation, std::int64_t groups) {
  return call("Conv2D", {x, filter}, {{"stride", stride}, {"padding", std::string(padding)}, {"dilation", dilation}, {"groups", groups}});
}
Value max_pool(Value x, std::int64_t size, std::int64_t stride, std::string_view padding) {
  check(bool(x), Code::invalid_argument, "max_pool of an absent value");
  const NodeData& node = x.graph->node(x.node);
  const bool relu = node.op == "Relu";   // max and relu commute: after the pooling it has less to do, also backward
  return call("MaxPool", {relu ? node.inputs[0] : x},
              {{"size", size}, {"stride", stride}, {"padding", std::string(padding)}, {"relu", relu}});
}
Value average_pool(Value x, std::int64_t size, std::int64_t stride, std::string_view padding) {
  return call("AveragePool", {x}, {{"size", size}, {"stride", stride}, {"padding", std::string(padding)}});
}
Value global_average_pool(Value x) { return mean(x, {1, 2}); }
Value resize(Value x, std::int64_t height, std::int64_t width, std::string_view method) {
  return call("Resize", {x}, {{"height", height}, {"width", width}, {"method", std::string(method)}});
}

Value dropout(Value x, float rate) { return call("Dropout", {x}, {{"rate", rate}}); }

}  // namespace cohort
