// Which memory layout of images suits oneDNN's convolutions: nhwc, which everything here uses, or blocks of 8 or 16 channels.
// One thread; the filter always lies as oneDNN wants it.
//
//   OMP_NUM_THREADS=1 build/release/tests/benchmarks/layout_benchmark --benchmark_repetitions=5
//   DNNL_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 build/release/tests/benchmarks/layout_benchmark
//
// "sum" is a training step's: forward, gradient of the image, gradient of the filter. FLOPS counts multiplications and
// additions; the label names the implementations.
#include <benchmark/benchmark.h>
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>

namespace {

using Tag = dnnl::memory::format_tag;
using Desc = dnnl::memory::desc;
using Forward = dnnl::convolution_forward;
using BackwardData = dnnl::convolution_backward_data;
using BackwardWeights = dnnl::convolution_backward_weights;
constexpr auto kFloat = dnnl::memory::data_type::f32;
constexpr auto kDirect = dnnl::algorithm::convolution_direct;

struct Convolution {
  std::int64_t images, channels, size, filters, window, stride;
  [[nodiscard]] std::string text() const {
    return std::to_string(images) + "x" + std::to_string(size) + "x" + std::to_string(size) + "x" + std::to_string(channels) +
           " to " + std::to_string(filters) + ", " + std::to_string(window) + "x" + std::to_string(window) +
           (stride > 1 ? " stride " + std::to_string(stride) : "");
  }
};

void run(benchmark::State& state, const Convolution& c, Tag tag) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const std::int64_t padding = c.window / 2, out = (c.size + 2 * padding - c.window) / c.stride + 1;
  const Desc x({c.images, c.channels, c.size, c.size}, kFloat, tag), y({c.images, c.filters, out, out}, kFloat, tag);
  const Desc w({c.filters, c.channels, c.window, c.window}, kFloat, Tag::any);
  const dnnl::memory::dims strides{c.stride, c.stride}, around{padding, padding};
  const Forward::primitive_desc forward({dnnl::prop_kind::forward_training, kDirect, x, w, y, strides, around, around}, engine);
  const BackwardData::primitive_desc data({kDirect, x, w, y, strides, around, around}, engine, forward);
  const BackwardWeights::primitive_desc weights({kDirect, x, w, y, strides, around, around}, engine, forward);
  const auto zeros = [&](const Desc& desc) {
    dnnl::memory memory(desc, engine);
    std::fill_n(static_cast<char*>(memory.get_data_handle()), desc.get_size(), '\0');
    return memory;
  };
  const dnnl::memory image = zeros(x), result = zeros(y);
  const std::unordered_map<int, dnnl::memory> a{
      {DNNL_ARG_SRC, image}, {DNNL_ARG_WEIGHTS, zeros(forward.weights_desc())}, {DNNL_ARG_DST, result}};
  const std::unordered_map<int, dnnl::memory> b{
      {DNNL_ARG_DIFF_DST, result}, {DNNL_ARG_WEIGHTS, zeros(data.weights_desc())}, {DNNL_ARG_DIFF_SRC, image}};
  const std::unordered_map<int, dnnl::memory> d{
      {DNNL_ARG_SRC, image}, {DNNL_ARG_DIFF_DST, result}, {DNNL_ARG_DIFF_WEIGHTS, zeros(weights.diff_weights_desc())}};
  const Forward f(forward);
  const BackwardData g(data);
  const BackwardWeights h(weights);
  for (auto _ : state) {
    f.execute(stream, a);
    g.execute(stream, b);
    h.execute(stream, d);
    stream.wait();
  }
  const double flops = 6. * static_cast<double>(c.images * out * out * c.filters * c.window * c.window * c.channels);
  state.counters["FLOPS"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(std::string(forward.impl_info_str()) + " " + data.impl_info_str() + " " + weights.impl_info_str());
}

}  // namespace

int main(int argc, char** argv) {
  omp_set_num_threads(1);
  const Convolution convolutions[] = {{64, 32, 14, 64, 5, 1}, {64, 16, 28, 16, 3, 1}, {64, 32, 14, 32, 3, 1},
                                      {64, 64, 7, 64, 3, 1},  {32, 64, 28, 64, 3, 1}, {32, 128, 14, 128, 3, 1},
                                      {32, 256, 7, 256, 3, 1}};
  for (const Convolution& c : convolutions) {
    for (const auto& [name, tag] : {std::pair{"nhwc", Tag::nhwc}, {"nChw8c", Tag::nChw8c}, {"nChw16c", Tag::nChw16c}}) {
      benchmark::RegisterBenchmark((c.text() + "/" + name).c_str(), [c, t = tag](benchmark::State& state) { run(state, c, t); })
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
