// Speed of the matrix products, dense layers, convolutions and pooling at training shapes, with one thread and in processor
// time, so that other work on the machine disturbs the figures little.
//
//   build/release/tests/benchmarks/ops_benchmark --benchmark_filter=Dense --benchmark_repetitions=5
//
// FLOPS counts two operations per multiplication and addition. Kernels run through a prepared step, as in training.
// Padding 16 puts 16 floats after every row, which takes leading dimensions off multiples of 4 KiB.
#include <benchmark/benchmark.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "cohort/base/random.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace {

using namespace cohort;

Tensor random_tensor(const Shape& shape, std::int64_t padding) {
  const Tensor result(host(), DType::float32, shape, shape.columns() + padding);
  for (std::int64_t i = 0; i < result.rows(); ++i) {
    for (std::int64_t j = 0; j < result.columns(); ++j) {
      const auto index = static_cast<std::uint64_t>(i * result.columns() + j);
      result.data<float>()[i * result.ld() + j] = 2 * random_uniform(1, 2, index) - 1;
    }
  }
  return result;
}

/// Runs one node again and again. Inputs are variables and the output a bound fetch, so that both may be padded.
void run(benchmark::State& state, const std::string& op, const std::vector<Shape>& in, const Attrs& attrs, double flops,
         std::int64_t padding = 0) {
  Graph graph;
  std::vector<Value> inputs;
  for (const Shape& shape : in) inputs.push_back(graph.variable("in_" + std::to_string(inputs.size()), shape, "zeros"));
  const Node node = graph.add(op, inputs, attrs);
  Session session(graph);
  for (const Value& input : inputs)
    session.bind(input, random_tensor(input.shape(), input.shape().rank() > 1 ? padding : 0));
  std::vector<Value> fetches;
  for (std::size_t i = 0; i < graph.node(node.id).outputs.size(); ++i) fetches.push_back(node[static_cast<int>(i)]);
  if (padding > 0) session.bind(fetches[0], random_tensor(fetches[0].shape(), padding));
  Step& step = session.prepare(fetches, {});
  for (auto _ : state) step.run({});
  if (flops > 0) state.counters["FLOPS"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

void add(const std::string& name, const std::string& op, const std::vector<Shape>& in, const Attrs& attrs, double flops,
         std::int64_t padding = 0) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run(state, op, in, attrs, flops, padding); })
      ->Unit(benchmark::kMillisecond);
}

/// A dense layer of n rows: forward, and the products of its gradient.
void add_dense(std::int64_t n, std::int64_t in, std::int64_t units) {
  const double flops = 2. * static_cast<double>(n * in * units);
  for (const std::int64_t padding : {0, 16}) {
    const std::string shape = std::to_string(n) + "x" + std::to_string(in) + "x" + std::to_string(units) +
                              (padding > 0 ? "/padded" : "/dense");
    add("Dense/" + shape, "Dense", {{n, in}, {in, units}, {units}}, {{"activation", "relu"}}, flops, padding);
    add("DenseWeightGrad/" + shape, "MatMul", {{n, in}, {n, units}}, {{"transpose_a", true}}, flops, padding);
    add("DenseInputGrad/" + shape, "MatMul", {{n, units}, {in, units}}, {{"transpose_b", true}}, flops, padding);
  }
}

void add_conv(const std::string& name, const Shape& x, std::int64_t size, std::int64_t filters) {
  const Shape filter{size, size, x[3], filters}, y{x[0], x[1], x[2], filters};
  const double flops = 2. * static_cast<double>(y.elements() * size * size * x[3]);
  const Attrs attrs{{"padding", "same"}};
  add("Conv2D/" + name, "Conv2D", {x, filter, {filters}}, attrs, flops);
  if (x[3] > 1) add("Conv2DInputGrad/" + name, "Conv2DInputGrad", {y, filter, x}, attrs, flops);
  add("Conv2DFilterGrad/" + name, "Conv2DFilterGrad", {x, y, filter}, {{"padding", "same"}, {"bias", true}}, flops);
}

/// The pooling of a rectified value, forward and backward.
void add_pool_gradient(const std::string& name, const Shape& x, const Shape& y) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    Graph graph;
    const Value image = graph.variable("x", x, "zeros"), weight = graph.variable("w", y, "zeros");
    Session session(graph);
    session.bind(image, random_tensor(x, 0));
    session.bind(weight, random_tensor(y, 0));
    const std::vector<Value> dx = gradients(sum(max_pool(relu(image), 2, 2) * weight), std::array{image});
    Step& step = session.prepare(dx, {});
    for (auto _ : state) step.run({});
  })->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  add_dense(128, 784, 1024);
  add_dense(128, 1024, 1024);
  add_dense(128, 1024, 10);
  const Shape queries{64, 128, 32};
  add("MatMul/64 times 128x128x32", "MatMul", {queries, queries}, {{"transpose_b", true}}, 2. * 64 * 128 * 128 * 32);
  add_conv("first 1x28x28 to 32, 5x5, batch 64", {64, 28, 28, 1}, 5, 32);
  add_conv("32x14x14 to 64, 5x5, batch 64", {64, 14, 14, 32}, 5, 64);
  add_conv("64x56x56 to 64, 3x3, batch 8", {8, 56, 56, 64}, 3, 64);
  const Attrs halves{{"size", 2}, {"stride", 2}, {"padding", "valid"}};
  for (const std::int64_t channels : {6, 32}) {
    const Shape x{64, 28, 28, channels}, y{64, 14, 14, channels};
    const std::string name = "28x28, " + std::to_string(channels) + " channels, batch 64";
    add("MaxPool/" + name, "MaxPool", {x}, halves, 0);
    add_pool_gradient("MaxPool and MaxPoolGrad/" + name, x, y);
  }
  add("BatchNormTraining/64x28x28x32", "BatchNormTraining", {{64, 28, 28, 32}, {32}, {32}}, {{"epsilon", 1e-5}}, 0);
  add("BatchNormInference/64x28x28x32", "BatchNormInference", {{64, 28, 28, 32}, {32}, {32}, {32}, {32}}, {{"epsilon", 1e-5}}, 0);
  add("GroupNorm/64x28x28x32", "GroupNorm", {{64, 28, 28, 32}, {32}, {32}}, {{"epsilon", 1e-5}, {"groups", std::int64_t{8}}}, 0);
  add("LayerNorm/1024x768", "LayerNorm", {{1024, 768}, {768}, {768}}, {{"epsilon", 1e-5}}, 0);
  add("Dropout/128x1024", "Dropout", {{128, 1024}}, {{"rate", 0.5}}, 0);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
