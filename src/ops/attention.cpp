// Multi-head self-attention as one op (Vaswani et al., "Attention is all you need", 2017, section 3.2). The input is what one
// dense layer gives: queries, keys and values side by side, [n, t, 3 d], each cut into `heads` of d / heads columns. For every
// sample and head y = softmax(q kᵀ / √(d / heads)) v; with `causal` (the default) position i sees the positions 0 … i only.
// The mask is never made: what it would hide is not computed, but for the corners of tiles.
//
// Kept for the gradient is one number per position and head, L = ln Σ exp(score): the weights P = exp(score − L) are computed
// again, which costs less than keeping t² of them (Dao et al., "FlashAttention", 2022, algorithm 4). With D = Σ dy y per row,
// dv = Pᵀ dy, dS = P ⊙ (dy vᵀ − D) / √(d / heads), dq = dS k, dk = dSᵀ q. A gradient of L itself only takes D's place: D − dL.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/tensor/vector_math.hpp"
#include "lanes.hpp"
#include "tile.hpp"

namespace cohort {
namespace {

using tile::kRows;
using tile::Strided;

struct Sizes {
  std::int64_t samples, positions, heads, width;   // width: columns of one head
  bool causal;

  Sizes(const Shape& qkv, const Attrs& attrs)
      : samples(qkv[0]), positions(qkv[1]), heads(attrs.get<std::int64_t>("heads")), width(qkv[2] / 3 / heads),
        causal(attrs.get("causal", true)) {}

  [[nodiscard]] std::int64_t all() const { return heads * width; }
  [[nodiscard]] std::int64_t wide() const { return tile::whole_columns(width); }
  /// Distance of the rows of scores: whole tiles, and an odd number of cache lines, so that columns spread over all sets.
  [[nodiscard]] std::int64_t score_ld() const { return tile::whole_columns(positions) / 32 * 32 + 48; }
  [[nodiscard]] float scale() const { return 1.f / std::sqrt(static_cast<float>(width)); }
  /// Keys that the strip of queries from `query` on sees, and those that one query sees.
  [[nodiscard]] std::int64_t keys_of_strip(std::int64_t query) const { return causal ? std::min(positions, query + kRows) : positions; }
  [[nodiscard]] std::int64_t keys_of(std::int64_t query) const { return causal ? query + 1 : positions; }
};

/// to [columns, ld] := the transpose of rows [rows, columns].
void pack_transposed(const float* from, std::int64_t from_ld, std::int64_t rows, std::int64_t columns, float* to, std::int64_t ld) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) to[j * ld + i] = from[i * from_ld + j];
  }
}

void copy_rows(const float* from, std::int64_t from_ld, std::int64_t rows, std::int64_t columns, float* to, std::int64_t ld) {
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(from + i * from_ld, columns, to + i * ld);
}

/// Memory of one thread, zero at first: what packing leaves untouched must stay finite.
class Scratch {
 public:
  explicit Scratch(const NodeInfo& info) : device_(info.device) {}
  float* take(std::int64_t n) { return parts_.emplace_back(device_, n).data(); }

 private:
  Device& device_;
  std::vector<ScratchFloats> parts_;
};

/// f(work, sample, head) for all pairs on several threads, each with a `Work` of its own.
template <class Work>
class ForHeads {
 public:
  ForHeads(const Sizes& sizes, const NodeInfo& info) : heads_(sizes.heads), pairs_(sizes.samples * sizes.heads) {
    for (int i = 0; i < info.pool.threads(); ++i) work_.push_back(std::make_unique<Work>(sizes, info));
  }

  template <class F>
  void run(ThreadPool& pool, F f) {
    std::atomic<std::size_t> next = 0;
    pool.parallel_for(pairs_, 1, [&](std::int64_t begin, std::int64_t end) {
      Work& work = *work_[next.fetch_add(1)];
      for (std::int64_t i = begin; i < end; ++i) f(work, i / heads_, i % heads_);
    });
  }

 private:
  std::int64_t heads_, pairs_;
  std::vector<std::unique_ptr<Work>> work_;
};

class Forward {
 public:
  Forward(const Sizes& sizes, const NodeInfo& info)
      : s_(sizes), scratch_(info), score_ld_(s_.score_ld()), keys_(scratch_.take(s_.width * score_ld_)),
        values_(scratch_.take(s_.positions * s_.wide())), scores_(scratch_.take(kRows * score_ld_)),
        result_(scratch_.take(kRows * s_.wide())) {}

  /// q, k, v and y of one head at row distances ld and ld_y; log_sums [positions].
  void run(const float* q, std::int64_t ld, float* y, std::int64_t ld_y, float* log_sums) {
    pack_transposed(q + s_.all(), ld, s_.positions, s_.width, keys_, score_ld_);
    copy_rows(q + 2 * s_.all(), ld, s_.positions, s_.width, values_, s_.wide());
    for (std::int64_t i = 0; i < s_.positions; i += kRows) {
      const std::int64_t rows = std::min(kRows, s_.positions - i), keys = s_.keys_of_strip(i);
      tile::strip(rows, {q + i * ld, ld, 1}, keys_, score_ld_, s_.width, scores_, score_ld_, tile::whole_columns(keys));
      float inverse[kRows] = {};
      for (std::int64_t r = 0; r < rows; ++r) {
        inverse[r] = weights(scores_ + r * score_ld_, s_.keys_of(i + r), tile::whole_columns(keys), log_sums[i + r]);
      }
      tile::strip(rows, {scores_, score_ld_, 1}, values_, s_.wide(), keys, result_, s_.wide(), s_.wide());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t j = 0; j < s_.width; ++j) y[(i + r) * ld_y + j] = result_[r * s_.wide() + j] * inverse[r];
      }
    }
  }

 private:
  /// Turns the first `keys` scores into exponentials and the rest, up to `columns`, into zeros; returns 1 / their sum.
  [[nodiscard]] float weights(float* x, std::int64_t keys, std::int64_t columns, float& log_sum) const {
    const float scale = s_.scale();
    std::fill(x + keys, x + columns, x[0]);              // whole vectors from here on
    const float most = join_lanes<MaxOf>(columns, [x](std::int64_t j) { return x[j]; });
#pragma GCC ivdep
    for (std::int64_t j = 0; j < columns; ++j) x[j] = vec::exp((x[j] - most) * scale);
    std::fill(x + keys, x + columns, 0.f);
    const float sum = join_lanes<FloatSumOf>(columns, [x](std::int64_t j) { return x[j]; });
    log_sum = most * scale + std::log(sum);
    return 1.f / sum;
  }

  Sizes s_;
  Scratch scratch_;
  std::int64_t score_ld_;
  float *keys_, *values_, *scores_, *result_;
};

class BackwardOfHead {
 public:
  BackwardOfHead(const Sizes& sizes, const NodeInfo& info)
      : s_(sizes), scratch_(info), wide_(s_.wide()), score_ld_(s_.score_ld()), keys_t_(scratch_.take(s_.width * score_ld_)),
        values_t_(scratch_.take(s_.width * score_ld_)), keys_(scratch_.take(s_.positions * wide_)), queries_(scratch_.take(kChunk * wide_)),
        dy_(scratch_.take(kChunk * wide_)), weights_(scratch_.take(kChunk * score_ld_)), dscores_(scratch_.take(kChunk * score_ld_)),
        dkeys_(scratch_.take((s_.positions + kRows) * wide_)), dvalues_(scratch_.take((s_.positions + kRows) * wide_)),
        result_(scratch_.take(kRows * wide_)) {}

  struct Given {
    const float *q, *y, *dy, *log_sums, *dlog_sums;   // dlog_sums may be null
    std::int64_t ld, ld_y, ld_dy;
  };

  /// dq, and behind it dk and dv as q lies in qkv, at row distance ld_dq.
  void run(const Given& x, float* dq, std::int64_t ld_dq) {
    pack_transposed(x.q + s_.all(), x.ld, s_.positions, s_.width, keys_t_, score_ld_);
    pack_transposed(x.q + 2 * s_.all(), x.ld, s_.positions, s_.width, values_t_, score_ld_);
    copy_rows(x.q + s_.all(), x.ld, s_.positions, s_.width, keys_, wide_);
    for (std::int64_t begin = 0; begin < s_.positions; begin += kChunk) {
      const std::int64_t end = std::min(s_.positions, begin + kChunk);
      copy_rows(x.q + begin * x.ld, x.ld, end - begin, s_.width, queries_, wide_);
      copy_rows(x.dy + begin * x.ld_dy, x.ld_dy, end - begin, s_.width, dy_, wide_);
      for (std::int64_t i = begin; i < end; i += kRows) run_queries(x, i, begin, std::min(kRows, end - i), dq + i * ld_dq, ld_dq);
      run_keys(begin, end);
    }
    copy_rows(dkeys_, wide_, s_.positions, s_.width, dq + s_.all(), ld_dq);
    copy_rows(dvalues_, wide_, s_.positions, s_.width, dq + 2 * s_.all(), ld_dq);
  }

 private:
  static constexpr std::int64_t kChunk = 128;   // queries at a time: bounds the memory of scores, a multiple of kRows

  /// P, dS and dq of one strip of queries.
  void run_queries(const Given& x, std::int64_t i, std::int64_t begin, std::int64_t rows, float* dq, std::int64_t ld_dq) {
    const std::int64_t keys = s_.keys_of_strip(i), columns = tile::whole_columns(keys);
    float *weights = weights_ + (i - begin) * score_ld_, *dscores = dscores_ + (i - begin) * score_ld_;
    const float *q = queries_ + (i - begin) * wide_, *dy = dy_ + (i - begin) * wide_;
    tile::strip(rows, {q, wide_, 1}, keys_t_, score_ld_, s_.width, weights, score_ld_, columns);
    tile::strip(rows, {dy, wide_, 1}, values_t_, score_ld_, s_.width, dscores, score_ld_, columns);
    const float scale = s_.scale();
    for (std::int64_t r = 0; r < rows; ++r) {
      float *p = weights + r * score_ld_, *ds = dscores + r * score_ld_;
      const float *y_row = x.y + (i + r) * x.ld_y, *dy_row = dy + r * wide_, log_sum = x.log_sums[i + r];
      float d = join_lanes<FloatSumOf>(s_.width, [=](std::int64_t j) { return y_row[j] * dy_row[j]; });
      if (x.dlog_sums != nullptr) d -= x.dlog_sums[i + r];
      std::fill(p + s_.keys_of(i + r), p + columns, log_sum / scale);
#pragma GCC ivdep
      for (std::int64_t j = 0; j < columns; ++j) {
        const float weight = vec::exp(p[j] * scale - log_sum);
        p[j] = weight;
        ds[j] = weight * (ds[j] - d) * scale;
      }
      std::fill(p + s_.keys_of(i + r), p + columns, 0.f);
      std::fill(ds + s_.keys_of(i + r), ds + columns, 0.f);
    }
    tile::strip(rows, {dscores, score_ld_, 1}, keys_, wide_, keys, result_, wide_, wide_);
    copy_rows(result_, wide_, rows, s_.width, dq, ld_dq);
  }

  /// Adds the chunk's part of dk and dv; the first part that a key gets overwrites.
  void run_keys(std::int64_t begin, std::int64_t end) {
    const std::int64_t keys = s_.causal ? end : s_.positions;
    for (std::int64_t j = 0; j < keys; j += kRows) {
      const std::int64_t rows = std::min(kRows, s_.positions - j), first = s_.causal ? std::max(begin, j) : begin, at = first - begin;
      const bool add = begin > 0 && (!s_.causal || j < begin);
      tile::strip(rows, {weights_ + at * score_ld_ + j, 1, score_ld_}, dy_ + at * wide_, wide_, end - first, dvalues_ + j * wide_, wide_,
                  wide_, add);
      tile::strip(rows, {dscores_ + at * score_ld_ + j, 1, score_ld_}, queries_ + at * wide_, wide_, end - first, dkeys_ + j * wide_, wide_,
                  wide_, add);
    }
  }

  Sizes s_;
  Scratch scratch_;
  std::int64_t wide_, score_ld_;
  float *keys_t_, *values_t_, *keys_, *queries_, *dy_, *weights_, *dscores_, *dkeys_, *dvalues_, *result_;
};

class AttentionKernel final : public Kernel {
 public:
  explicit AttentionKernel(const NodeInfo& info) : s_(info.in[0].shape, info.attrs), heads_(s_, info) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    const Tensor &qkv = c.in(0), &y = c.out(0);
    heads_.run(c.pool(), [&](Forward& work, std::int64_t sample, std::int64_t head) {
      const std::int64_t row = sample * s_.positions, column = head * s_.width;
      work.run(qkv.data<float>() + row * qkv.ld() + column, qkv.ld(), y.data<float>() + row * y.ld() + column, y.ld(),
               c.out(1).data<float>() + (sample * s_.heads + head) * c.out(1).ld());
    });
  }

 private:
  Sizes s_;
  ForHeads<Forward> heads_;
};

/// Inputs dy, qkv, y, L, and the gradient of L if there is one.
class AttentionGradKernel final : public Kernel {
 public:
  explicit AttentionGradKernel(const NodeInfo& info) : s_(info.in[1].shape, info.attrs), heads_(s_, info) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    const Tensor &dy = c.in(0), &qkv = c.in(1), &y = c.in(2), &dqkv = c.out();
    const auto log_sums = [&](std::size_t i, std::int64_t row) { return c.in(i).data<float>() + row * c.in(i).ld(); };
    heads_.run(c.pool(), [&](BackwardOfHead& work, std::int64_t sample, std::int64_t head) {
      const std::int64_t row = sample * s_.positions, column = head * s_.width, pair = sample * s_.heads + head;
      work.run({.q = qkv.data<float>() + row * qkv.ld() + column, .y = y.data<float>() + row * y.ld() + column,
                .dy = dy.data<float>() + row * dy.ld() + column, .log_sums = log_sums(3, pair),
                .dlog_sums = c.inputs() > 4 ? log_sums(4, pair) : nullptr, .ld = qkv.ld(), .ld_y = y.ld(), .ld_dy = dy.ld()},
               dqkv.data<float>() + row * dqkv.ld() + column, dqkv.ld());
    });
  }

 private:
  Sizes s_;
  ForHeads<BackwardOfHead> heads_;
};

void check_qkv(const Inference& c, std::size_t i) {
  c.expect_float(i);
  c.expect_rank(i, 3);
  const std::int64_t heads = c.attrs.get<std::int64_t>("heads"), columns = c.shape(i)[2];
  if (heads < 1) c.refuse("heads is " + std::to_string(heads) + ", it must be positive");
  if (columns == Shape::kUnknown) c.refuse("the last dimension of input " + std::to_string(i) + " must be known");
  if (columns % (3 * heads) != 0) {
    c.refuse("input " + std::to_string(i) + " has " + std::to_string(columns) + " columns, they are no multiple of 3 · " +
             std::to_string(heads) + " heads");
  }
}

std::vector<Signature> infer(const Inference& c) {
  c.expect_inputs(1);
  check_qkv(c, 0);
  const Shape& qkv = c.shape(0);
  return {{DType::float32, {qkv[0], qkv[1], qkv[2] / 3}}, {DType::float32, {qkv[0], c.attrs.get<std::int64_t>("heads"), qkv[1]}}};
}

std::vector<Signature> infer_grad(const Inference& c) {
  if (c.inputs() != 5) c.expect_inputs(4);
  check_qkv(c, 1);
  const Shape& qkv = c.shape(1);
  for (std::size_t i = 0; i < c.inputs(); ++i) {
    if (i == 1) continue;
    c.expect_float(i);
    const Shape want = i >= 3 ? Shape{qkv[0], c.attrs.get<std::int64_t>("heads"), qkv[1]} : Shape{qkv[0], qkv[1], qkv[2] / 3};
    if (!compatible(c.shape(i), want)) c.refuse("input " + std::to_string(i) + " must be " + want.text());
  }
  return {c.in(1)};
}

std::vector<Value> gradient(const Backward& b) {
  std::vector<Value> inputs{b.dy(0), b.x(0), b.y(0), b.y(1)};
  if (b.has_dy(1)) inputs.push_back(b.dy(1));
  return {b.graph.add("AttentionGrad", inputs, b.attrs)};
}

Example example(std::int64_t samples, std::int64_t positions, std::int64_t heads, std::int64_t width, bool causal) {
  return {.in = {{.shape = {samples, positions, 3 * heads * width}, .low = -2, .high = 2}},
          .attrs = {{"heads", heads}, {"causal", causal}}};
}

/// Two for every pair of a query and a key that it sees and every column, in each of `products` products.
double flops_of(const Shape& qkv, const Attrs& attrs, int products) {
  const Sizes s(qkv, attrs);
  const auto positions = static_cast<double>(s.positions);
  const double pairs = s.causal ? positions * (positions + 1) / 2 : positions * positions;
  return 2.0 * products * static_cast<double>(s.samples * s.all()) * pairs;
}
/// Scores, and the weighted sums of values.
double flops_forward(std::span<const Signature> in, std::span<const Signature>, const Attrs& attrs) { return flops_of(in[0].shape, attrs, 2); }
/// The gradients of scores, queries, keys and values.
double flops_backward(std::span<const Signature> in, std::span<const Signature>, const Attrs& attrs) { return flops_of(in[1].shape, attrs, 4); }

const Registered<Op> op{"Attention",
                        {.infer = infer,
                         .gradient = gradient,
                         .examples = {example(2, 3, 2, 2, true), example(1, 9, 1, 5, false), example(1, 21, 2, 3, true),
                                      example(1, 1, 3, 1, true), example(1, 4, 1, 17, true), example(0, 2, 1, 4, true)},
                         .flops = flops_forward,
                         .products = {0}}};
const RegisteredKernel kernel{"Attention", "CPU", make_kernel<AttentionKernel>};

// One head of one column, two positions, causal: P = (1, 0; ½, ½) where q = 0. dv = Pᵀ dy, dS₁ = ½ (dy v − D), D₁ = dy₁ (v₀ + v₁) / 2.
const Registered<Op> grad_op{
    "AttentionGrad",
    {.infer = infer_grad,
     .examples = {{.in = {{.shape = {1, 2, 1}, .values = {1, 2}},
                          {.shape = {1, 2, 3}, .values = {0, 1, 3, 0, 2, 5}},
                          {.shape = {1, 2, 1}, .values = {3, 4}},
                          {.shape = {1, 1, 2}, .values = {0, 0.693147181}}},
                   .attrs = {{"heads", 1}, {"causal", true}},
                   .expected = {{0, 0, 2, 1, 0, 1}}}},
     .flops = flops_backward,
     .products = {0, 1}}};
const RegisteredKernel grad_kernel{"AttentionGrad", "CPU", make_kernel<AttentionGradKernel>};

}  // namespace
}  // namespace cohort
