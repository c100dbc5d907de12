// Long short-term memory over whole sequences (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000). The
// input's part of the gates comes ready, a = x W + b, [n, t, 4 u], from one dense layer for all positions; the op adds the
// recurrent part, from h₋₁ = c₋₁ = 0:
//
//   z_t = a_t + h_{t-1} R,   i = σ(z_i), f = σ(z_f), g = tanh(z_g), o = σ(z_o),   c_t = f c_{t-1} + i g,   h_t = o tanh(c_t)
//
// with the gates in PyTorch's order i, f, g, o along the columns of a and R [u, 4 u]. Results: h, and for the gradient c and the
// gates after their activations. The gradient runs back in time: dh_t = dy_t + dz_{t+1} Rᵀ, dc_t = dh_t o (1 − tanh² c_t) + dc_{t+1}
// f_{t+1}, dz from the derivatives of the activations in terms of their results, dR = Σ_t h_{t-1}ᵀ dz_t, da = dz.
//
// Samples do not depend on each other: threads take fixed groups of them through all positions.
#include <algorithm>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/tensor/vector_math.hpp"
#include "onednn.hpp"

namespace cohort {
namespace {

constexpr std::int64_t kGroup = 16, kBlock = 64;   // samples; columns of dR: fixed, so that results do not depend on threads

struct Sizes {
  std::int64_t samples, positions, units;
  explicit Sizes(const Shape& h) : samples(h[0]), positions(h[1]), units(h[2]) {}

  /// f(first sample, number) for all groups.
  template <class F>
  void for_groups(ThreadPool& pool, F f) const {
    pool.parallel_for((samples + kGroup - 1) / kGroup, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) f(i * kGroup, std::min(kGroup, samples - i * kGroup));
    });
  }
  [[nodiscard]] float* at(const Tensor& x, std::int64_t sample, std::int64_t position) const {
    return x.data<float>() + (sample * positions + position) * x.ld();
  }
};

class LstmKernel final : public Kernel {
 public:
  explicit LstmKernel(const NodeInfo& info) : s_(info.out[0].shape) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    s_.for_groups(c.pool(), [&](std::int64_t first, std::int64_t number) {
      for (std::int64_t t = 0; t < s_.positions; ++t) {
        for (std::int64_t i = first; i < first + number; ++i) copy_gates(c, i, t);
        if (t > 0) add_recurrent(c, first, number, t);
        for (std::int64_t i = first; i < first + number; ++i) {
          cell(s_.at(c.out(2), i, t), t > 0 ? s_.at(c.out(1), i, t - 1) : nullptr, s_.at(c.out(1), i, t), s_.at(c.out(0), i, t));
        }
      }
    });
  }

 private:
  void copy_gates(KernelContext& c, std::int64_t sample, std::int64_t t) const {
    const float* from = s_.at(c.in(0), sample, t);
    float* to = s_.at(c.out(2), sample, t);
    if (from != to) std::copy_n(from, 4 * s_.units, to);
  }

  void add_recurrent(KernelContext& c, std::int64_t first, std::int64_t number, std::int64_t t) const {
    const Tensor &h = c.out(0), &gates = c.out(2), &weight = c.in(1);
    onednn::multiply({s_.at(h, first, t - 1), s_.positions * h.ld(), false}, {weight.data<float>(), weight.ld(), false},
                     s_.at(gates, first, t), s_.positions * gates.ld(), {number, 4 * s_.units, s_.units}, true);
  }

  void cell(float* gates, const float* before, float* cells, float* h) const {
    const std::int64_t n = s_.units;
    float *in = gates, *forget = gates + n, *input = gates + 2 * n, *out = gates + 3 * n;
#pragma GCC ivdep
    for (std::int64_t j = 0; j < 2 * n; ++j) in[j] = vec::sigmoid(in[j]);   // the forget gate lies behind it
#pragma GCC ivdep
    for (std::int64_t j = 0; j < n; ++j) input[j] = vec::tanh(input[j]);
#pragma GCC ivdep
    for (std::int64_t j = 0; j < n; ++j) out[j] = vec::sigmoid(out[j]);
#pragma GCC ivdep
    for (std::int64_t j = 0; j < n; ++j) {
      const float kept = before != nullptr ? forget[j] * before[j] : 0.f, value = kept + in[j] * input[j];
      cells[j] = value;
      h[j] = out[j] * vec::tanh(value);
    }
  }

  Sizes s_;
};

/// Inputs dh, R, h, c, gates; optionally the gradients of c and of the gates. Outputs da and dR.
class LstmGradKernel final : public Kernel {
 public:
  explicit LstmGradKernel(const NodeInfo& info)
      : s_(info.in[0].shape), extra_(info.in.size() == 7), dh_(info, s_.samples * s_.units),
        dc_(info, s_.samples * s_.units) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    s_.for_groups(c.pool(), [&](std::int64_t first, std::int64_t number) {
      for (std::int64_t t = s_.positions - 1; t >= 0; --t) {
        if (t + 1 < s_.positions) from_next(c, first, number, t);
        for (std::int64_t i = first; i < first + number; ++i) cell(c, i, t);
      }
    });
    recurrent_gradient(c);
  }

 private:
  [[nodiscard]] float* of_sample(const ScratchFloats& x, std::int64_t sample) const { return x.data() + sample * s_.units; }

  /// dh_ := dz_{t+1} Rᵀ.
  void from_next(KernelContext& c, std::int64_t first, std::int64_t number, std::int64_t t) {
    const Tensor &dz = c.out(0), &weight = c.in(1);
    onednn::multiply({s_.at(dz, first, t + 1), s_.positions * dz.ld(), false}, {weight.data<float>(), weight.ld(), true},
                     of_sample(dh_, first), s_.units, {number, s_.units, 4 * s_.units});
  }

  void cell(KernelContext& c, std::int64_t sample, std::int64_t t) {
    const std::int64_t n = s_.units;
    const bool last = t + 1 == s_.positions;
    const float *dy = s_.at(c.in(0), sample, t), *cells = s_.at(c.in(3), sample, t), *before = t > 0 ? s_.at(c.in(3), sample, t - 1) : nullptr;
    const float *gates = s_.at(c.in(4), sample, t), *in = gates, *forget = gates + n, *input = gates + 2 * n, *out = gates + 3 * n;
    float *dz = s_.at(c.out(0), sample, t), *dh = of_sample(dh_, sample), *dc = of_sample(dc_, sample);
    if (last) {
      std::fill_n(dh, n, 0.f);
      std::fill_n(dc, n, 0.f);
    }
    if (extra_) {
      const float* more = s_.at(c.in(5), sample, t);
      for (std::int64_t j = 0; j < n; ++j) dc[j] += more[j];
    }
    const float* dgates = extra_ ? s_.at(c.in(6), sample, t) : nullptr;
    const auto more = [dgates](std::int64_t j) { return dgates != nullptr ? dgates[j] : 0.f; };
#pragma GCC ivdep
    for (std::int64_t j = 0; j < n; ++j) {
      const float i = in[j], f = forget[j], g = input[j], o = out[j];   // read before dz is written: it may lie there
      const float through = vec::tanh(cells[j]), dhj = dh[j] + dy[j];
      const float dcj = dc[j] + dhj * o * (1.f - through * through);
      dz[j] = (dcj * g + more(j)) * i * (1.f - i);
      dz[n + j] = (dcj * (before != nullptr ? before[j] : 0.f) + more(n + j)) * f * (1.f - f);
      dz[2 * n + j] = (dcj * i + more(2 * n + j)) * (1.f - g * g);
      dz[3 * n + j] = (dhj * through + more(3 * n + j)) * o * (1.f - o);
      dc[j] = dcj * f;
    }
  }

  void recurrent_gradient(KernelContext& c) const {
    const Tensor &h = c.in(2), &dz = c.out(0), &dweight = c.out(1);
    const std::int64_t columns = 4 * s_.units;
    c.pool().parallel_for((columns + kBlock - 1) / kBlock, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t j = block * kBlock, width = std::min(kBlock, columns - j);
        for (std::int64_t row = 0; row < s_.units; ++row) std::fill_n(dweight.data<float>() + row * dweight.ld() + j, width, 0.f);
        for (std::int64_t i = 0; i < s_.samples && s_.positions > 1; ++i) {
          onednn::multiply({s_.at(h, i, 0), h.ld(), true}, {s_.at(dz, i, 1) + j, dz.ld(), false}, dweight.data<float>() + j, dweight.ld(),
                           {s_.units, width, s_.positions - 1}, true);
        }
      }
    });
  }

  Sizes s_;
  bool extra_;
  ScratchFloats dh_, dc_;   // of every sample, at the position at hand
};

void check_weight(const Inference& c, std::int64_t columns) {
  c.expect_float(1);
  c.expect_rank(1, 2);
  if (columns == Shape::kUnknown || columns % 4 != 0) c.refuse("the gates' columns must be known and a multiple of 4");
  if (!compatible(c.shape(1), Shape{columns / 4, columns})) {
    c.refuse("the recurrent weight must be " + Shape{columns / 4, columns}.text());
  }
}

std::vector<Signature> infer(const Inference& c) {
  c.expect_inputs(2);
  c.expect_float(0);
  c.expect_rank(0, 3);
  const Shape& gates = c.shape(0);
  check_weight(c, gates[2]);
  const Signature state{DType::float32, {gates[0], gates[1], gates[2] / 4}};
  return {state, state, c.in(0)};
}

std::vector<Signature> infer_grad(const Inference& c) {
  if (c.inputs() != 7) c.expect_inputs(5);
  c.expect_rank(4, 3);
  const Shape& gates = c.shape(4);
  check_weight(c, gates[2]);
  for (std::size_t i = 0; i < c.inputs(); ++i) {
    if (i == 1) continue;
    c.expect_float(i);
    const Shape want{gates[0], gates[1], i == 4 || i == 6 ? gates[2] : gates[2] / 4};
    if (!compatible(c.shape(i), want)) c.refuse("input " + std::to_string(i) + " must be " + want.text());
  }
  return {c.in(4), c.in(1)};
}

std::vector<Value> gradient(const Backward& b) {
  std::vector<Value> inputs{b.dy(0), b.x(1), b.y(0), b.y(1), b.y(2)};
  if (b.has_dy(1) || b.has_dy(2)) inputs.insert(inputs.end(), {b.dy(1), b.dy(2)});
  const Node d = b.graph.add("LstmGrad", inputs);
  return {d[0], d[1]};
}

/// The product with the recurrent weight, which the first position's state of zeros does not need.
double flops_of(const Shape& gates) {
  const Sizes s(Shape{gates[0], gates[1], gates[2] / 4});
  return 2.0 * static_cast<double>(s.samples * std::max<std::int64_t>(s.positions - 1, 0)) * static_cast<double>(s.units * 4 * s.units);
}
double flops_forward(std::span<const Signature> in, std::span<const Signature>, const Attrs&) { return flops_of(in[0].shape); }
double flops_backward(std::span<const Signature> in, std::span<const Signature>, const Attrs&) { return 2 * flops_of(in[4].shape); }

Example example(std::int64_t samples, std::int64_t positions, std::int64_t units) {
  return {.in = {{.shape = {samples, positions, 4 * units}, .low = -2, .high = 2}, {.shape = {units, 4 * units}}}};
}

const Registered<Op> op{
    "Lstm",
    {.infer = infer, .gradient = gradient, .examples = {example(2, 3, 2), example(1, 1, 3), example(17, 2, 1), example(3, 5, 9), example(0, 2, 1)},
     .reuse = {{.output = 2, .input = 0}},
     .flops = flops_forward,
     .products = {1}}};
const RegisteredKernel kernel{"Lstm", "CPU", onednn::make_kernel<LstmKernel>};

// One position, one unit, c = 0: da_g = dh · o · i (1 − g²) and no recurrent part. i = f = o = ½, g = 0, dh = 8.
const Registered<Op> grad_op{
    "LstmGrad",
    {.infer = infer_grad,
     .examples = {{.in = {{.shape = {1, 1, 1}, .values = {8}}, {.shape = {1, 4}, .values = {1, 2, 3, 4}}, {.shape = {1, 1, 1}, .values = {0}},
                          {.shape = {1, 1, 1}, .values = {0}}, {.shape = {1, 1, 4}, .values = {0.5, 0.5, 0, 0.5}}},
                   .expected = {{0, 0, 2, 0}, {0, 0, 0, 0}}}},
     .reuse = {{.output = 0, .input = 4}},
     .flops = flops_backward,
     .products = {1, 2}}};
const RegisteredKernel grad_kernel{"LstmGrad", "CPU", onednn::make_kernel<LstmGradKernel>};

}  // namespace
}  // namespace cohort
