// Speed of the codecs against memcpy: bytes of float32 per second, 4 MiB at a time.
//
//   chrt -r 10 taskset -c 0 build/release/tests/benchmarks/codec_benchmark
//
// "feedback" encodes with a residual; "add" decodes onto a sum. Numbers are normal, with a scale of their own in each 4096.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <string>

#include "cohort/base/random.hpp"
#include "cohort/comm/codec.hpp"

namespace {

using namespace cohort;

constexpr std::size_t kN = (4u << 20) / sizeof(float);

/// Aligned as the memory of buckets is.
template <class T>
class Array {
 public:
  explicit Array(std::size_t n) : buffer_(host().allocate(n * sizeof(T))) { std::memset(data(), 0, n * sizeof(T)); }
  [[nodiscard]] T* data() const { return static_cast<T*>(buffer_.memory.get()); }

 private:
  Buffer buffer_;
};

Array<float> numbers() {
  Array<float> x(kN);
  for (std::size_t i = 0; i < kN; ++i) x.data()[i] = std::ldexp(random_normal(1, 2, i), -static_cast<int>(i / 4096 % 20));
  return x;
}

void count(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(kN * sizeof(float)));
}

void copy(benchmark::State& state) {
  const Array<float> x = numbers();
  const Array<float> y(kN);
  for (auto _ : state) {
    std::memcpy(y.data(), x.data(), kN * sizeof(float));
    benchmark::ClobberMemory();
  }
  count(state);
}

struct Case {
  std::string codec, rounding;
  [[nodiscard]] std::unique_ptr<Codec> make() const {
    Section section("codec");
    if (!rounding.empty()) section.set("rounding", {rounding, "benchmark"});
    return Registry<CodecType>::instance().get(codec).make(section);
  }
};

void encode(benchmark::State& state, const Case& which, bool feedback) {
  const auto codec = which.make();
  const Array<float> x = numbers();
  const Array<float> residual(kN);
  const Array<std::byte> wire(codec->wire_bytes(kN));
  ExchangeContext context;
  for (auto _ : state) {
    codec->encode(x.data(), kN, wire.data(), feedback ? residual.data() : nullptr, context);
    ++context.step;
    benchmark::ClobberMemory();
  }
  count(state);
}

void decode(benchmark::State& state, const Case& which, Accumulate how) {
  const auto codec = which.make();
  const Array<float> x = numbers();
  const Array<std::byte> wire(codec->wire_bytes(kN));
  codec->encode(x.data(), kN, wire.data(), nullptr, {});
  for (auto _ : state) {
    codec->decode(wire.data(), kN, x.data(), how, {});
    benchmark::ClobberMemory();
  }
  count(state);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("memcpy", copy);
  for (const Case& which : {Case{"bf16", ""}, Case{"fp16", ""}, Case{"int8", ""}, Case{"int8", "stochastic"}}) {
    const std::string name = which.codec + (which.rounding.empty() ? "" : "/" + which.rounding);
    benchmark::RegisterBenchmark((name + "/encode").c_str(), encode, which, false);
    benchmark::RegisterBenchmark((name + "/encode/feedback").c_str(), encode, which, true);
    benchmark::RegisterBenchmark((name + "/decode").c_str(), decode, which, Accumulate::assign);
    benchmark::RegisterBenchmark((name + "/decode/add").c_str(), decode, which, Accumulate::add);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
