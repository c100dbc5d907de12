// Select(condition, a, b): a where the condition holds, else b.
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/broadcast.hpp"

namespace cohort {
namespace {

template <class T>
class SelectKernel final : public Kernel {
 public:
  explicit SelectKernel(const NodeInfo& info)
      : plan_(info.out[0].shape, {info.in[0].shape, info.in[1].shape, info.in[2].shape}) {}

  void run(KernelContext& c) override {
    const bool* condition = c.in(0).data<bool>();
    const T* a = c.in(1).template data<T>();
    const T* b = c.in(2).template data<T>();
    T* y = c.out().template data<T>();
    const std::int64_t dc = plan_.advances(0), da = plan_.advances(1), db = plan_.advances(2);
    c.pool().parallel_for(c.out().elements(), 16384, [&](std::int64_t begin, std::int64_t end) {
      plan_.runs(begin, end, [&](std::int64_t at, const auto& o, std::int64_t n) {
        if (dc + da + db == 3) choose(condition + o[0], a + o[1], b + o[2], y + at, n);
        else for (std::int64_t i = 0; i < n; ++i) y[at + i] = condition[o[0] + i * dc] ? a[o[1] + i * da] : b[o[2] + i * db];
      });
    });
  }

 private:
  static void choose(const bool* condition, const T* a, const T* b, T* y, std::int64_t n) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      const T if_true = a[i], if_false = b[i];     // both are read, so that the choice needs no branch
      y[i] = condition[i] ? if_true : if_false;
    }
  }

  BroadcastPlan<3> plan_;
};

std::vector<Signature> infer_select(const Inference& c) {
  c.expect_inputs(3);
  c.expect_dtype(0, DType::boolean);
  c.expect_same_dtype(1, 2);
  const auto shape = broadcast(c.shape(0), c.broadcast(1, 2));
  if (!shape) c.refuse("the condition does not broadcast with the shapes of inputs 1 and 2");
  return {{c.in(1).dtype, *shape}};
}

const Registered<Op> select_op{
    "Select",
    {.infer = infer_select,
     .gradient = [](const Backward& b) -> std::vector<Value> {
       const Value zero = b.graph.constant(0.f);
       return {{}, b.wants(1) ? select(b.x(0), b.dy(), zero) : Value{}, b.wants(2) ? select(b.x(0), zero, b.dy()) : Value{}};
     },
     .examples = {{.in = {{.shape = {4}, .dtype = DType::boolean, .values = {1, 0, 0, 1}}, {.shape = {4}}, {.shape = {4}}}},
                  {.in = {{.shape = {3, 1}, .dtype = DType::boolean}, {.shape = {3, 5}}, {.shape = {5}}}},
                  {.in = {{.shape = {3, 5}, .dtype = DType::boolean}, {.shape = {}}, {.shape = {3, 1}}}},
                  {.in = {{.shape = {2, 1, 3}, .dtype = DType::boolean}, {.shape = {4, 1}}, {.shape = {1, 1, 1}}}},
                  {.in = {{.shape = {0, 2}, .dtype = DType::boolean}, {.shape = {}}, {.shape = {2}}}},
                  {.in = {{.shape = {5}, .dtype = DType::boolean},
                          {.shape = {5}, .dtype = DType::int32, .low = -9, .high = 9},
                          {.shape = {}, .dtype = DType::int32, .low = -9, .high = 9}}}},
     .reuse = {{.output = 0, .input = 1}, {.output = 0, .input = 2}},
     .broadcasts = true}};
const RegisteredKernel select_kernel{
    "Select", "CPU",
    [](const NodeInfo& info) {
                                       return dispatch(info.in[1].dtype, [&]<class T>() -> std::unique_ptr<Kernel> {
                                         return std::make_unique<SelectKernel<T>>(info);
                                       });
                                     }};

}  // namespace
}  // namespace cohort
