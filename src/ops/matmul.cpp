// Matrix product, batched over leading dimensions: y[…] = op(a[…]) · op(b[…]), op the identity or the transpose.
// Gradient: Giles, "Collected matrix derivative results for forward and reverse mode AD" (2008), section 2.2.1.
#include <optional>
#include <utility>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "onednn.hpp"
#include "product.hpp"
#include "product_of_rows.hpp"

namespace cohort {
namespace {

struct Matrices {
  bool transpose_a, transpose_b;
  std::int64_t m, k, k_of_b, n;
};

Matrices matrices_of(const Shape& a, const Shape& b, const Attrs& attrs) {
  const bool ta = attrs.get("transpose_a", false), tb = attrs.get("transpose_b", false);
  return {ta, tb, a[ta ? -1 : -2], a[ta ? -2 : -1], b[tb ? -1 : -2], b[tb ? -2 : -1]};
}

Shape batch_of(Shape shape) {
  shape.erase(shape.rank() - 1);
  shape.erase(shape.rank() - 1);
  return shape;
}

std::vector<Signature> infer(const Inference& c) {
  c.expect_inputs(2);
  for (const std::size_t i : {0u, 1u}) {
    c.expect_float(i);
    if (c.shape(i).rank() < 2) c.refuse("input " + std::to_string(i) + " must have at least 2 dimensions");
  }
  const Matrices s = matrices_of(c.shape(0), c.shape(1), c.attrs);
  if (s.k != s.k_of_b && s.k != Shape::kUnknown && s.k_of_b != Shape::kUnknown) {
    c.refuse("the inner dimensions differ: " + std::to_string(s.k) + " and " + std::to_string(s.k_of_b));
  }
  const auto batch = broadcast(batch_of(c.shape(0)), batch_of(c.shape(1)));
  if (!batch) c.refuse("the leading dimensions do not broadcast");
  Shape result = *batch;
  result.append(s.m);
  result.append(s.n);
  return {{DType::float32, result}};
}

/// Sums over the batch dimensions along which `input` was repeated.
Value summed(Value gradient, Value input) {
  const Shape from = batch_of(gradient.shape()), to = batch_of(input.shape());
  if (from == to && (to.known() || to.rank() == 0)) return gradient;
  return input.graph->add("SumLike", {gradient, input});
}

std::vector<Value> gradient(const Backward& g) {
  const Value a = g.x(0), b = g.x(1), dy = g.dy();
  const Matrices s = matrices_of(a.shape(), b.shape(), g.attrs);
  std::vector<Value> dx(2);
  if (g.wants(1)) {
    if (!s.transpose_a && b.shape().rank() == 2 && a.shape().rank() > 2) {
      dx[1] = product_of_rows(a, dy, b, s.transpose_b);
    } else {
      dx[1] = summed(s.transpose_b ? matmul(dy, a, true, s.transpose_a) : matmul(a, dy, !s.transpose_a, false), b);
    }
  }
  if (g.wants(0)) {
    dx[0] = summed(s.transpose_a ? matmul(b, dy, s.transpose_b, true) : matmul(dy, b, false, !s.transpose_b), a);
  }
  return dx;
}

class MatMulKernel final : public Kernel {
 public:
  explicit MatMulKernel(const NodeInfo& info) {
    const Shape &a = info.in[0].shape, &b = info.in[1].shape;
    s_ = matrices_of(a, b, info.attrs);
    rows_a_ = a[-2];
    rows_b_ = b[-2];
    const Shape batch = batch_of(info.out[0].shape);
    if (batch_of(b).elements() == 1 && batch_of(a) == batch && !s_.transpose_a) {
      s_.m *= batch.elements();            // one matrix b: the batch of a is more rows of it
      a_ = b_ = {0};
    } else {
      a_ = positions(batch_of(a), batch);
      b_ = positions(batch_of(b), batch);
    }
    native_ = info.attrs.get("native_bf16", false);
    product_.emplace(info, onednn::ProductSize{s_.m, s_.n, s_.k}, s_.transpose_a, s_.transpose_b);
  }

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    const auto batches = static_cast<std::int64_t>(a_.size());
    const auto operands = [&](std::int64_t i) {
      const Tensor &a = c.in(0), &b = c.in(1);
      const auto at = static_cast<std::size_t>(i);
      return std::pair{onednn::Matrix{a.data<float>() + a_[at] * rows_a_ * a.ld(), a.ld(), s_.transpose_a},
                       onednn::Matrix{b.data<float>() + b_[at] * rows_b_ * b.ld(), b.ld(), s_.transpose_b}};
    };
    const Tensor& y = c.out();
    const onednn::ProductSize size{s_.m, s_.n, s_.k};
    if (batches < c.pool().threads() || native_) {    // few: the threads share each product
      for (std::int64_t i = 0; i < batches; ++i) {
        const auto [a, b] = operands(i);
        product_->run(c.pool(), a, b, y.data<float>() + i * s_.m * y.ld(), y.ld());
      }
      return;
    }
    c.pool().parallel_for(batches, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto [a, b] = operands(i);
        onednn::multiply(a, b, y.data<float>() + i * s_.m * y.ld(), y.ld(), size);
      }
    });
  }

 private:
  /// For every matrix of the output's batch the number of the one of `from` that it is made from.
  static std::vector<std::int64_t> positions(const Shape& from, const Shape& batch) {
    std::vector<std::int64_t> result{0};
    const auto missing = static_cast<std::int64_t>(batch.rank() - from.rank());
    for (std::int64_t d = 0; d < static_cast<std::int64_t>(batch.rank()); ++d) {
      const std::int64_t size = d < missing ? 1 : from[d - missing];
      std::vector<std::int64_t> next;
      for (const std::int64_t before : result) {
        for (std::int64_t i = 0; i < batch[d]; ++i) next.push_back(before * size + (size == 1 ? 0 : i));
      }
      result = std::move(next);
    }
    return result;
  }

  Matrices s_{};
  std::int64_t rows_a_ = 0, rows_b_ = 0;
  std::vector<std::int64_t> a_, b_;
  std::optional<onednn::Product> product_;
  bool native_ = false;
};

/// Two for every element of the result and of the inner dimension.
double flops(std::span<const Signature> in, std::span<const Signature> out, const Attrs& attrs) {
  return 2.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(matrices_of(in[0].shape, in[1].shape, attrs).k);
}

ExampleInput random(const Shape& shape) { return {.shape = shape}; }

const Registered<Op> op{
    "MatMul",
    {.infer = infer,
     .gradient = gradient,
     .examples = {{.in = {random({3, 5}), random({5, 2})}},
                  {.in = {random({5, 3}), random({5, 2})}, .attrs = {{"transpose_a", true}}},
                  {.in = {random({3, 5}), random({7, 5})}, .attrs = {{"transpose_b", true}}},
                  {.in = {random({5, 3}), random({2, 5})}, .attrs = {{"transpose_a", true}, {"transpose_b", true}}},
                  {.in = {random({1, 1}), random({1, 1})}},
                  {.in = {random({2, 3, 4}), random({2, 4, 5})}},
                  {.in = {random({2, 3, 4}), random({4, 5})}},
                  {.in = {random({2, 3, 4}), random({5, 4})}, .attrs = {{"transpose_b", true}}},
                  {.in = {random({4, 3}), random({2, 4, 5})}, .attrs = {{"transpose_a", true}}},
                  {.in = {random({2, 1, 3, 4}), random({3, 5, 4})}, .attrs = {{"transpose_b", true}}},
                  {.in = {random({0, 4}), random({4, 5})}, .expected = {{}}},
                  {.in = {random({2, 0}), random({0, 3})}, .expected = {{0, 0, 0, 0, 0, 0}}}},
     .flops = flops,
     .products = {0, 1},
     .native_bf16 = true}};
const RegisteredKernel kernel{"MatMul", "CPU", make_kernel<MatMulKernel>};

}  // namespace
}  // namespace cohort
