#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/base/random.hpp"
#include "cohort/exec/session.hpp"

namespace cohort::test {

/// Uniform in [-1, 1), a function of `seed`.
inline Tensor random_tensor(const Shape& shape, std::uint64_t seed) {
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 2 * random_uniform(seed, 1, i) - 1;
  return Tensor::of<float>(shape, values);
}

/// The same elements with `padding` NaNs after every row.
inline Tensor padded(const Tensor& x, std::int64_t padding) {
  const Tensor result(host(), x.dtype(), x.shape(), x.columns() + padding);
  std::fill_n(static_cast<float*>(result.raw()), result.bytes() / sizeof(float), std::numeric_limits<float>::quiet_NaN());
  result.copy_from(x);
  return result;
}

/// Is everything between the rows still NaN?
inline bool padding_untouched(const Tensor& x) {
  for (std::int64_t i = 0; i + 1 < x.rows(); ++i) {
    for (std::int64_t j = x.columns(); j < x.ld(); ++j) {
      if (!std::isnan(x.data<float>()[i * x.ld() + j])) return false;
    }
  }
  return true;
}

struct RunNode {
  int threads = 1;
  RunOptions options{};
  std::vector<Tensor> out{};   ///< memory for the outputs, bound
  std::string name{};          ///< of the node
};

/// All outputs of one node. Dense inputs are fed, others are variables bound to that memory.
inline std::vector<Tensor> run_node(std::string_view op, const std::vector<Tensor>& in, Attrs attrs = {},
                                    const RunNode& how = {}) {
  Graph g;
  std::vector<Value> inputs;
  Feeds feeds;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::string name = "in_" + std::to_string(i);
    if (in[i].dense()) {
      inputs.push_back(g.placeholder(name, in[i].dtype(), in[i].shape()));
      feeds.emplace_back(inputs.back(), in[i]);
    } else {
      inputs.push_back(g.variable(name, in[i].shape(), "zeros"));
    }
  }
  const Node node = g.add(op, inputs, std::move(attrs), how.name);
  std::vector<Value> fetches;
  for (std::size_t i = 0; i < g.node(node.id).outputs.size(); ++i) fetches.push_back(node[static_cast<int>(i)]);
  Session session(g, {.threads = how.threads});
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!in[i].dense()) session.bind(inputs[i], in[i]);
  }
  for (std::size_t i = 0; i < how.out.size(); ++i) session.bind(fetches[i], how.out[i]);
  return session.run(fetches, feeds, how.options);
}

/// The largest difference, relative to the largest magnitude of the reference (or 1).
inline double difference(const std::vector<float>& x, const std::vector<double>& reference) {
  if (x.size() != reference.size()) return std::numeric_limits<double>::infinity();
  double most = 0, scale = 1;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = std::fabs(static_cast<double>(x[i]) - reference[i]);
    most = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(most, d);
    scale = std::max(scale, std::fabs(reference[i]));
  }
  return most / scale;
}
inline double difference(const Tensor& x, const std::vector<double>& reference) {
  return difference(x.to_vector<float>(), reference);
}

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace cohort::test
