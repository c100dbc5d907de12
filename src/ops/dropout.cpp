// Dropout (Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014), in the
// inverted form: an element is kept with probability 1 − rate and divided by it. Whether element j of global row r is kept
// is a function of (seed, node, step, r · row elements + j), so the mask needs no memory, its gradient computes it again,
// and it depends neither on threads nor on how the rows of a batch are spread over ranks.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "cohort/base/random.hpp"
#include "cohort/exec/kernel.hpp"
#include "cohort/graph/graph.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

std::vector<Signature> infer(const Inference& c) {
  const double rate = c.attrs.get<double>("rate");
  if (!(rate >= 0 && rate < 1)) c.refuse("rate is " + std::to_string(rate) + ", it must be at least 0 and below 1");
  return same_as_first(c);
}

constexpr std::size_t kWords = 4, kElements = 64;   // the generator gives four words at once; drawn per turn of the loop

class DropoutKernel final : public Kernel {
 public:
  explicit DropoutKernel(const NodeInfo& info)
      : rows_(info.in[0].shape.rank() == 0 ? 1 : info.in[0].shape[0]),
        stream_(stream_of(info.attrs.get<std::string>("stream", info.name))) {
    const double rate = info.attrs.get<double>("rate");
    row_elements_ = info.in[0].shape.elements() / std::max<std::int64_t>(rows_, 1);
    dropped_below_ = static_cast<std::uint32_t>(rate * 0x1p32);
    scale_ = static_cast<float>(1 / (1 - rate));
  }

  void run(KernelContext& c) override {
    const RunOptions& options = c.options();
    const auto key = philox(options.seed, stream_, static_cast<std::uint64_t>(options.step));
    const std::uint64_t seed = (std::uint64_t{key[0]} << 32) | key[1];
    const float* x = c.in(0).data<float>();
    float* y = c.out().data<float>();
    constexpr std::int64_t kGrain = 4096;   // elements per thread below which waking a thread costs more
    const std::int64_t grain = kGrain / std::max<std::int64_t>(row_elements_, 1) + 1;
    c.pool().parallel_for(rows_, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t global = options.row_offset + i * options.row_stride;
        row(seed, static_cast<std::uint64_t>(global * row_elements_), x + i * row_elements_, y + i * row_elements_);
      }
    });
  }

 private:
  /// Element k of the mask's stream is decided by word k % 4 of the generator's value k / 4; a row is the elements
  /// first … first + row_elements − 1.
  void row(std::uint64_t seed, std::uint64_t first, const float* x, float* y) const {
    const std::uint64_t end = first + static_cast<std::uint64_t>(row_elements_);
    std::array<std::uint32_t, kElements> bits;
    for (std::uint64_t from = first / kWords * kWords; from < end; from += kElements) {
      for (std::size_t k = 0; k < kElements && from + k < end; k += kWords) {
        const auto words = philox(seed, stream_, (from + k) / kWords);
        std::copy(words.begin(), words.end(), bits.begin() + k);
      }
      const std::uint64_t begin = std::max(first, from);
      apply(bits.data() + (begin - from), x + (begin - first), y + (begin - first), std::min(end, from + kElements) - begin);
    }
  }

  void apply(const std::uint32_t* bits, const float* x, float* y, std::uint64_t n) const {
    const std::uint32_t below = dropped_below_;   // locals, which y cannot overlap: else no vector instructions
    const float scale = scale_;
    for (std::uint64_t k = 0; k < n; ++k) y[k] = x[k] * (bits[k] >= below ? scale : 0.f);   // NaN stays NaN
  }

  std::int64_t rows_, row_elements_ = 0;
  std::uint64_t stream_;
  std::uint32_t dropped_below_ = 0;
  float scale_ = 1;
};

/// The same mask applied to dy. `stream` names the generator's stream: the forward node's.
std::vector<Value> gradient(const Backward& b) {
  const std::string& node = b.graph.node(b.y().node).name;
  return {b.graph.add("Dropout", {b.dy()},
                      {{"rate", b.attrs.get<double>("rate")}, {"stream", b.attrs.get<std::string>("stream", node)}})};
}

const Registered<Op> op{"Dropout",
                        {.infer = infer,
                         .gradient = gradient,
                         .examples = {{.in = {{.shape = {2, 3}, .values = {1, 2, 3, 4, 5, 6}}},
                                       .attrs = {{"rate", 0.0}},
                                       .expected = {{1, 2, 3, 4, 5, 6}}},
                                      {.in = {{.shape = {3, 7}}}, .attrs = {{"rate", 0.5}, {"stream", "example"}}},
                                      {.in = {{.shape = {0, 7}}}, .attrs = {{"rate", 0.5}}, .expected = {{}}}},
                         .reuse = {{.output = 0, .input = 0}},
                         .stateful = true}};
const RegisteredKernel kernel{"Dropout", "CPU", make_kernel<DropoutKernel>};

}  // namespace
}  // namespace cohort
