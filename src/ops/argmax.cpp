// The position of the maximum along one axis: the first one among equals, and NaN counts as the largest (as in PyTorch).
#include <algorithm>
#include <array>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

class ArgMaxKernel final : public Kernel {
 public:
  explicit ArgMaxKernel(const NodeInfo& info) {
    const Shape& shape = info.in[0].shape;
    const auto rank = static_cast<std::int64_t>(shape.rank());
    const std::int64_t wanted = info.attrs.get<std::int64_t>("axis"), axis = wanted < 0 ? wanted + rank : wanted;
    rows_ = shape[axis];
    for (std::int64_t d = 0; d < axis; ++d) outer_ *= shape[d];
    for (std::int64_t d = axis + 1; d < rank; ++d) columns_ *= shape[d];
  }

  void run(KernelContext& c) override {
    const float* x = c.in(0).data<float>();
    auto* y = c.out().data<std::int32_t>();
    const std::int64_t tiles = (columns_ + kTile - 1) / kTile, work = rows_ * std::min(columns_, kTile);
    c.pool().parallel_for(outer_ * tiles, std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, work)),
                          [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::int64_t outer = unit / tiles, column = unit % tiles * kTile;
        tile(x + outer * rows_ * columns_ + column, std::min(kTile, columns_ - column), y + outer * columns_ + column);
      }
    });
  }

 private:
  static constexpr std::int64_t kTile = 64;

  void tile(const float* x, std::int64_t columns, std::int32_t* y) const {
    std::array<float, kTile> best;
    std::copy_n(x, columns, best.begin());
    std::fill_n(y, columns, 0);
    for (std::int64_t row = 1; row < rows_; ++row) {
      x += columns_;
      for (std::int64_t j = 0; j < columns; ++j) {
        const bool better = (x[j] > best[j]) | ((x[j] != x[j]) & (best[j] == best[j]));   // the first NaN stays
        best[j] = better ? x[j] : best[j];
        y[j] = better ? static_cast<std::int32_t>(row) : y[j];
      }
    }
  }

  std::int64_t outer_ = 1, rows_ = 1, columns_ = 1;
};

Example example(const Shape& shape, std::int64_t axis) { return {.in = {{.shape = shape}}, .attrs = {{"axis", axis}}}; }

const Registered<Op> argmax_op{
    "ArgMax",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(1);
       c.expect_float(0);
       Shape shape = c.shape(0);
       const std::size_t axis = c.axis(0, c.attrs.get<std::int64_t>("axis"));
       if (shape[static_cast<std::int64_t>(axis)] == 0) c.refuse("there is no maximum of no elements");
       shape.erase(axis);
       return {{DType::int32, shape}};
     },
     .gradient = no_gradient,
     .examples = {example({3, 10}, -1), example({7}, 0), example({4, 3, 5}, 1),
                  example({5, 67}, 0), example({3, 1}, 1), example({0, 3}, 1)}}};
const RegisteredKernel argmax_kernel{"ArgMax", "CPU", make_kernel<ArgMaxKernel>};

}  // namespace
}  // namespace cohort
