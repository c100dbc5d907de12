// Prints every example of every registered op as JSON lines, for make_op_values.py: op, key, attributes, inputs, and the
// weights by which its outputs enter the scalar that gradients are taken of.
#include <fmt/core.h>

#include <cmath>
#include <cstdio>

#include "ops/op_cases.hpp"

using namespace cohort;
using namespace cohort::test;

namespace {

struct Json {
  static std::string of(bool x) { return x ? "true" : "false"; }
  static std::string of(std::int64_t x) { return fmt::format("{}", x); }
  static std::string of(double x) {
    if (std::isnan(x)) return "NaN";
    return std::isinf(x) ? (x > 0 ? "Infinity" : "-Infinity") : fmt::format("{:.17g}", x);
  }
  static std::string of(const std::string& x) { return '"' + x + '"'; }   // names; nothing in them needs escapes
  static std::string of(DType x) { return of(std::string(name(x))); }
  static std::string of(const Shape& x) { return list(x); }
  static std::string of(const std::vector<std::int64_t>& x) { return list(x); }
  static std::string of(const Tensor& x) {
    return fmt::format(R"({{"dtype": {}, "shape": {}, "values": {}}})", of(x.dtype()), of(x.shape()), list(to_doubles(x)));
  }
  static std::string of(const Attrs& attrs) {
    std::string text;
    for (const auto& [name, attr] : attrs) {
      const std::string value = std::visit([](const auto& x) { return of(x); }, attr.value());
      text += fmt::format("{}\"{}\": {}", text.empty() ? "" : ", ", name, value);
    }
    return "{" + text + "}";
  }
  template <class T>
  static std::string list(const T& values) {
    std::string text;
    for (const auto& x : values) text += (text.empty() ? "" : ", ") + of(x);
    return "[" + text + "]";
  }
};

void print(const OpCase& op_case) {
  const CaseGraph built(op_case);
  std::string weights;
  for (std::size_t k = 0; k < built.outputs.size(); ++k) {
    const Shape& shape = built.outputs[k].shape();
    std::vector<double> numbers;
    if (built.outputs[k].dtype() == DType::float32) {
      const auto floats = op_case.weights(k, shape.elements());
      numbers.assign(floats.begin(), floats.end());
    }
    weights += (k ? ", " : "") + Json::list(numbers);
  }
  constexpr auto kLine =
      R"({{"op": "{}", "key": "{}", "attrs": {}, "inputs": {}, "weights": [{}], "expected": {}, "gradients": {}}})";
  fmt::print(kLine, op_case.op, op_case.key(), Json::of(op_case.example->attrs), Json::list(built.tensors), weights,
             Json::of(!op_case.example->expected.empty()), Json::of(!built.gradients.empty()));
  fmt::print("\n");
}

}  // namespace

int main() {
  try {
    for (const std::string& op : generic_ops()) {
      for (const OpCase& op_case : cases_of(op)) print(op_case);
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "op_examples: {}\n", error.what());
    return 1;
  }
}
