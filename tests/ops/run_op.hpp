#pragma once

#include <string>
#include <vector>

#include "ops/op_cases.hpp"

namespace cohort::test {

/// One node of `op`, run on its own on `threads` threads.
inline std::vector<Tensor> run_op(const std::string& op, const std::vector<Tensor>& in, const Attrs& attrs = {},
                                  int threads = 1) {
  Graph graph;
  Feeds feeds;
  std::vector<Value> inputs;
  for (const Tensor& x : in) {
    inputs.push_back(graph.placeholder("x", x.dtype(), x.shape()));
    feeds.emplace_back(inputs.back(), x);
  }
  const Node node = graph.add(op, inputs, attrs);
  std::vector<Value> outputs;
  for (std::size_t k = 0; k < graph.node(node.id).outputs.size(); ++k) outputs.push_back(node[static_cast<int>(k)]);
  Session session(graph, {.threads = threads});
  return session.run(outputs, feeds);
}

/// The values of its first output.
inline std::vector<double> values_of(const std::string& op, const std::vector<Tensor>& in, const Attrs& attrs = {}) {
  return to_doubles(run_op(op, in, attrs)[0]);
}

inline Tensor floats(const Shape& shape, const std::vector<float>& values) { return Tensor::of(shape, values); }
inline Tensor ints(const Shape& shape, const std::vector<std::int32_t>& values) { return Tensor::of(shape, values); }

/// The text of the Error that `f` throws, which must have the code.
template <class F>
std::string error_of(F f, Code code = Code::invalid_argument) {
  try {
    f();
  } catch (const Error& error) {
    return error.code() == code ? error.what() : "another code: " + std::string(error.what());
  }
  return "no error";
}

}  // namespace cohort::test
