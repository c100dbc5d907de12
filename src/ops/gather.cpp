// Rows by their numbers: looked up, summed back, or as unit vectors.
#include <algorithm>
#include <cstring>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

/// Error out_of_range with the first bad index, its position and the number of rows.
void check_indices(const std::string& node, const Tensor& indices, std::int64_t rows) {
  const auto* index = indices.data<std::int32_t>();
  for (std::int64_t i = 0, n = indices.elements(); i < n; ++i) {
    if (index[i] >= 0 && index[i] < rows) continue;
    fail(Code::out_of_range, "'" + node + "': index " + std::to_string(index[i]) + " at position " + std::to_string(i) +
                                 " is outside the " + std::to_string(rows) + " rows");
  }
}

std::int64_t row_elements(const Shape& shape) {
  std::int64_t n = 1;
  for (std::int64_t d = 1; d < static_cast<std::int64_t>(shape.rank()); ++d) n *= shape[d];
  return n;
}

class GatherKernel final : public Kernel {
 public:
  explicit GatherKernel(const NodeInfo& info)
      : name_(info.name), bytes_(static_cast<std::size_t>(row_elements(info.in[0].shape)) * size_of(info.in[0].dtype)) {}

  void run(KernelContext& c) override {
    check_indices(name_, c.in(1), c.in(0).shape()[0]);
    const auto* x = static_cast<const std::byte*>(c.in(0).raw());
    auto* y = static_cast<std::byte*>(c.out().raw());
    const auto* index = c.in(1).data<std::int32_t>();
    if (bytes_ == 0) return;
    const auto grain = std::max<std::int64_t>(1, 65536 / static_cast<std::int64_t>(bytes_));
    c.pool().parallel_for(c.in(1).elements(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        std::memcpy(y + static_cast<std::size_t>(i) * bytes_, x + static_cast<std::size_t>(index[i]) * bytes_, bytes_);
      }
    });
  }

 private:
  std::string name_;
  std::size_t bytes_;
};

std::vector<Signature> infer_gather(const Inference& c) {
  c.expect_inputs(2);
  c.expect_dtype(1, DType::int32);
  if (c.shape(0).rank() == 0) c.refuse("input 0 must have rows");
  if (c.shape(0).rank() + c.shape(1).rank() > Shape::kMaxRank + 1) c.refuse("the result would have more than 8 dimensions");
  Shape result = c.shape(1);
  for (std::int64_t d = 1; d < static_cast<std::int64_t>(c.shape(0).rank()); ++d) result.append(c.shape(0)[d]);
  return {{c.in(0).dtype, result}};
}

ExampleInput indices(const Shape& shape, std::vector<double> values) {
  return {.shape = shape, .dtype = DType::int32, .values = std::move(values)};
}

const Registered<Op> gather_op{
    "Gather",
    {.infer = infer_gather,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {b.graph.add("GatherGrad", {b.dy(), b.x(1), b.x(0)}), {}};
     },
     .examples = {{.in = {{.shape = {5, 3}}, indices({4}, {4, 0, 4, 2})}},
                  {.in = {{.shape = {3}}, indices({2, 2}, {0, 1, 2, 2})}},
                  {.in = {{.shape = {4, 1, 2}}, indices({}, {3})}},
                  {.in = {{.shape = {5, 3}}, {.shape = {0}, .dtype = DType::int32}}},
                  {.in = {{.shape = {1, 17}}, indices({3}, {0, 0, 0})}}}}};
const RegisteredKernel gather_kernel{"Gather", "CPU", make_kernel<GatherKernel>};

/// GatherGrad(dy, indices, like): every row of dy added to its row of zeros of like's shape. Threads share out the columns,
/// so that each sum runs in the order of the indices.
class GatherGradKernel final : public Kernel {
 public:
  explicit GatherGradKernel(const NodeInfo& info) : name_(info.name), columns_(row_elements(info.out[0].shape)) {}

  void run(KernelContext& c) override {
    check_indices(name_, c.in(1), c.out().shape()[0]);
    const float* dy = c.in(0).data<float>();
    const auto* index = c.in(1).data<std::int32_t>();
    float* dx = c.out().data<float>();
    const std::int64_t n = c.in(1).elements(), rows = c.out().shape()[0];
    const std::int64_t grain = std::max<std::int64_t>(16, 16384 / std::max<std::int64_t>(1, n + rows));
    c.pool().parallel_for(columns_, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = 0; row < rows; ++row) std::fill(dx + row * columns_ + begin, dx + row * columns_ + end, 0.f);
      for (std::int64_t i = 0; i < n; ++i) {
        const float* from = dy + i * columns_;
        float* to = dx + index[i] * columns_;
        for (std::int64_t j = begin; j < end; ++j) to[j] += from[j];
      }
    });
  }

 private:
  std::string name_;
  std::int64_t columns_;
};

const Registered<Op> gather_grad_op{
    "GatherGrad",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(3);
       c.expect_float(0);
       c.expect_float(2);
       c.expect_dtype(1, DType::int32);
       Shape rows = c.shape(1);
       for (std::int64_t d = 1; d < static_cast<std::int64_t>(c.shape(2).rank()); ++d) {
         rows.append(c.shape(2)[d]);
       }
       if (!compatible(rows, c.shape(0))) c.refuse("input 0 must have one row per index");
       return {c.in(2)};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {gather(b.dy(), b.x(1)), {}, {}};
     },
     .examples = {{.in = {{.shape = {4, 3}}, indices({4}, {4, 0, 4, 2}), {.shape = {5, 3}}}},
                  {.in = {{.shape = {2, 2}}, indices({2, 2}, {0, 1, 2, 2}), {.shape = {3}}}}},
     .shapes_from = 2}};
const RegisteredKernel gather_grad_kernel{"GatherGrad", "CPU", make_kernel<GatherGradKernel>};

class OneHotKernel final : public Kernel {
 public:
  explicit OneHotKernel(const NodeInfo& info) : name_(info.name), depth_(info.attrs.get<std::int64_t>("depth")) {}

  void run(KernelContext& c) override {
    check_indices(name_, c.in(0), depth_);
    const auto* index = c.in(0).data<std::int32_t>();
    float* y = c.out().data<float>();
    std::memset(y, 0, c.out().bytes());
    for (std::int64_t i = 0, n = c.in(0).elements(); i < n; ++i) y[i * depth_ + index[i]] = 1.f;
  }

 private:
  std::string name_;
  std::int64_t depth_;
};

const Registered<Op> one_hot_op{
    "OneHot",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(1);
       c.expect_dtype(0, DType::int32);
       const std::int64_t depth = c.attrs.get<std::int64_t>("depth");
       if (depth < 1) c.refuse("depth " + std::to_string(depth) + " must be positive");
       if (c.shape(0).rank() == Shape::kMaxRank) c.refuse("the result would have more than 8 dimensions");
       Shape result = c.shape(0);
       result.append(depth);
       return {{DType::float32, result}};
     },
     .gradient = no_gradient,
     .examples = {{.in = {indices({3}, {2, 0, 1})}, .attrs = {{"depth", 3}}},
                  {.in = {indices({2, 1}, {4, 0})}, .attrs = {{"depth", 5}}},
                  {.in = {indices({}, {0})}, .attrs = {{"depth", 1}}},
                  {.in = {{.shape = {0}, .dtype = DType::int32}}, .attrs = {{"depth", 4}}}}}};
const RegisteredKernel one_hot_kernel{"OneHot", "CPU", make_kernel<OneHotKernel>};

}  // namespace
}  // namespace cohort
