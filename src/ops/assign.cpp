// Ops that write a variable. Their output is the variable itself.
#include <cstddef>
#include <string>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/graph.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {
namespace {

std::vector<Signature> infer_write(const Inference& c) {
  c.expect_inputs(2);
  c.expect_same_dtype(0, 1);
  return {{c.in(0).dtype, c.expect_same_shape(0, 1)}};
}

std::vector<Signature> infer_move(const Inference& c) {
  c.expect_float(0);
  const double decay = c.attrs.get<double>("decay");
  if (!(decay >= 0 && decay <= 1)) c.refuse("decay is " + std::to_string(decay) + ", it must be between 0 and 1");
  return infer_write(c);
}

/// f(row of the value, row of the variable, elements) for every row; variables may lie with padded rows.
template <class F>
void for_rows(KernelContext& c, F f) {
  const Tensor &value = c.in(1), &variable = c.out();
  const auto size = static_cast<std::int64_t>(size_of(variable.dtype()));
  for (std::int64_t i = 0; i < variable.rows(); ++i) {
    f(static_cast<std::byte*>(value.raw()) + i * value.ld() * size,
      static_cast<std::byte*>(variable.raw()) + i * variable.ld() * size, variable.columns());
  }
}

class AssignKernel final : public Kernel {
 public:
  explicit AssignKernel(const NodeInfo& info) : size_(size_of(info.out[0].dtype)) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    for_rows(c, [&](void* value, void* variable, std::int64_t n) {
      c.stream().copy(variable, value, static_cast<std::size_t>(n) * size_);
    });
  }

 private:
  std::size_t size_;
};

/// variable := decay · variable + (1 − decay) · value.
class MoveTowardsKernel final : public Kernel {
 public:
  explicit MoveTowardsKernel(const NodeInfo& info) : decay_(static_cast<float>(info.attrs.get<double>("decay"))) {}

  [[nodiscard]] bool any_ld() const noexcept override { return true; }

  void run(KernelContext& c) override {
    for_rows(c, [&](void* value, void* variable, std::int64_t n) {
      apply(c.stream(), [decay = decay_](const float& to, float& x) { x = decay * x + (1.f - decay) * to; }, n,
            static_cast<float*>(value), static_cast<float*>(variable));
    });
  }

 private:
  float decay_;
};

const Registered<Op> assign_op{
    "Assign",
    {.infer = infer_write,
     .examples = {{.in = {{.shape = {3}}, {.shape = {3}, .values = {1, 2, 3}}}, .expected = {{1, 2, 3}}}},
     .reuse = {{.output = 0, .input = 0, .view = true}},
     .stateful = true}};
const RegisteredKernel assign_kernel{"Assign", kKernelFamily, make_kernel<AssignKernel>};

const Registered<Op> move_op{"MoveTowards",
                             {.infer = infer_move,
                              .examples = {{.in = {{.shape = {2}, .values = {1, 4}}, {.shape = {2}, .values = {2, 8}}},
                                            .attrs = {{"decay", 0.75}},
                                            .expected = {{1.25, 5}}}},
                              .reuse = {{.output = 0, .input = 0, .view = true}},
                              .stateful = true}};
const RegisteredKernel move_kernel{"MoveTowards", kKernelFamily, make_kernel<MoveTowardsKernel>};

}  // namespace
}  // namespace cohort
