#include "ops/op_cases.hpp"

#include <fmt/core.h>

#include <cmath>

#include "cohort/base/random.hpp"
#include "cohort/graph/functions.hpp"

namespace cohort::test {
namespace {

std::string signature_text(const Example& example) {
  std::string text = example.attrs.text();
  for (const ExampleInput& in : example.in) text += " " + Signature{in.dtype, in.shape}.text();
  return text;
}

std::vector<double> values_of(const OpCase& op_case, std::size_t i) {
  const ExampleInput& in = op_case.example->in[i];
  if (!in.values.empty()) return in.values;
  const std::uint64_t stream = stream_of(op_case.op + signature_text(*op_case.example));
  std::vector<double> values(static_cast<std::size_t>(in.shape.elements()));
  for (std::size_t k = 0; k < values.size(); ++k) {
    const double u = random_uniform(i, stream, k);
    if (in.dtype == DType::boolean) values[k] = u < 0.5;
    else values[k] = is_float(in.dtype) ? in.low + (in.high - in.low) * u : std::floor(in.low + (in.high - in.low) * u);
  }
  return values;
}

}  // namespace

std::vector<double> to_doubles(const Tensor& tensor) {
  Tensor dense(host(), tensor.dtype(), tensor.shape());
  dense.copy_from(tensor);
  std::vector<double> result(static_cast<std::size_t>(dense.elements()));
  dispatch(tensor.dtype(), [&]<class T>() {
    for (std::size_t i = 0; i < result.size(); ++i) {
      if constexpr (std::is_class_v<T>) result[i] = static_cast<double>(static_cast<float>(dense.data<T>()[i]));
      else result[i] = static_cast<double>(dense.data<T>()[i]);
    }
  });
  return result;
}

Tensor from_doubles(DType dtype, const Shape& shape, const std::vector<double>& values) {
  check(static_cast<std::int64_t>(values.size()) == shape.elements(), Code::invalid_argument,
        fmt::format("{} values for the shape {}", values.size(), shape.text()));
  const Tensor result(host(), dtype, shape);
  dispatch(dtype, [&]<class T>() {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_class_v<T>) result.data<T>()[i] = T(static_cast<float>(values[i]));
      else result.data<T>()[i] = static_cast<T>(values[i]);
    }
  });
  return result;
}

std::string OpCase::text() const { return fmt::format("{} example {} {}", op, index, signature_text(*example)); }

std::vector<Tensor> OpCase::inputs() const {
  std::vector<Tensor> result;
  for (std::size_t i = 0; i < example->in.size(); ++i) {
    const ExampleInput& in = example->in[i];
    result.push_back(from_doubles(in.dtype, in.shape, values_of(*this, i)));
  }
  return result;
}

std::string OpCase::key() const {
  std::string text = op + signature_text(*example);
  for (const Tensor& input : inputs()) text += Attr(input).text();
  return fmt::format("{:016x}", stream_of(text));
}

std::vector<float> OpCase::weights(std::size_t output, std::int64_t n) const {
  std::vector<float> result(static_cast<std::size_t>(n));
  const std::uint64_t stream = stream_of("weights of " + op + signature_text(*example));
  for (std::size_t k = 0; k < result.size(); ++k) result[k] = 2 * random_uniform(output, stream, k) - 1;
  return result;
}

std::vector<OpCase> cases_of(const std::string& op) {
  const Op& definition = Registry<Op>::instance().get(op);
  std::vector<OpCase> cases;
  for (std::size_t i = 0; i < definition.examples.size(); ++i) {
    cases.push_back({op, i, &definition, &definition.examples[i]});
  }
  return cases;
}

const std::map<std::string, std::string>& dedicated_tests() {
  static const std::map<std::string, std::string> tests{
      {"Assign", "tests/ops/assign_test.cpp"},
      {"Constant", "tests/ops/source_test.cpp"},
      {"MoveTowards", "tests/ops/assign_test.cpp"},
      {"Placeholder", "tests/ops/source_test.cpp"},
      {"Variable", "tests/ops/source_test.cpp"},
  };
  return tests;
}

std::vector<std::string> generic_ops() {
  std::vector<std::string> result;
  for (const std::string& op : Registry<Op>::instance().names()) {
    if (!dedicated_tests().contains(op)) result.push_back(op);
  }
  return result;
}

CaseGraph::CaseGraph(const OpCase& op_case) : tensors(op_case.inputs()) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    inputs.push_back(graph.placeholder(fmt::format("x{}", i), tensors[i].dtype(), tensors[i].shape()));
    if (tensors[i].dtype() == DType::float32) float_inputs.push_back(i);
  }
  const Node node = graph.add(op_case.op, inputs, op_case.example->attrs);
  Value loss;
  for (std::size_t k = 0; k < graph.node(node.id).outputs.size(); ++k) {
    const Value y = node[static_cast<int>(k)];
    outputs.push_back(y);
    if (y.dtype() != DType::float32) continue;
    const Value part = sum(y * graph.constant(Tensor::of(y.shape(), op_case.weights(k, y.shape().elements()))));
    loss = loss ? loss + part : part;
  }
  if (!loss || op_case.definition->gradient == nullptr || float_inputs.empty()) return;
  std::vector<Value> wrt;
  for (const std::size_t i : float_inputs) wrt.push_back(inputs[i]);
  gradients = cohort::gradients(loss, wrt);
}

FeedShapes CaseGraph::feed_shapes() const {
  FeedShapes shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) shapes.emplace_back(inputs[i], tensors[i].shape());
  return shapes;
}

Feeds CaseGraph::feeds() const {
  Feeds result;
  for (std::size_t i = 0; i < inputs.size(); ++i) result.emplace_back(inputs[i], tensors[i]);
  return result;
}

}  // namespace cohort::test
