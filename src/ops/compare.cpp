// Comparisons (bool results), choice by a condition, and conversion of element types.
#include <limits>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/broadcast.hpp"

namespace cohort {
namespace {

// IEEE 754: every comparison with NaN is false but !=.
struct IsEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a == b; }
};
struct IsNotEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a != b; }
};
struct IsLess {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a < b; }
};
struct IsLessEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a <= b; }
};
struct IsGreater {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a > b; }
};
struct IsGreaterEqual {
  template <class T>
  COHORT_HD bool operator()(T a, T b) const { return a >= b; }
};

std::vector<Signature> infer_comparison(const Inference& c) {
  c.expect_inputs(2);
  const DType dtype = c.in(0).dtype;
  if (dtype == DType::float64 || dtype == DType::float16 || dtype == DType::bfloat16) {
    c.refuse("compares float32, int32, int64, uint8 and bool; cast the inputs");
  }
  return {{DType::boolean, broadcast_both(c)[0].shape}};
}

ExampleInput numbers(const Shape& shape, DType dtype, std::vector<double> values) {
  return {.shape = shape, .dtype = dtype, .values = std::move(values)};
}

/// Equal, smaller and larger pairs, and the ways to broadcast.
std::vector<Example> comparisons() {
  std::vector<Example> examples{
      {.in = {numbers({6}, DType::float32, {1, 2, 3, -1, 0, 5}), numbers({6}, DType::float32, {1, 3, 2, -1, 0.5, -5})}},
      {.in = {numbers({2, 3}, DType::float32, {1, 2, 3, 4, 5, 6}), numbers({3}, DType::float32, {1, 5, 3})}},
      {.in = {numbers({2, 3}, DType::float32, {1, 2, 3, 4, 5, 6}), numbers({2, 1}, DType::float32, {2, 5})}},
      {.in = {numbers({}, DType::float32, {2}), numbers({3}, DType::float32, {1, 2, 3})}},
      {.in = {{.shape = {0, 3}}, {.shape = {3}}}},
      {.in = {numbers({2}, DType::boolean, {0, 1}), numbers({2, 1}, DType::boolean, {0, 1})}}};
  for (const DType dtype : {DType::int32, DType::int64, DType::uint8}) {
    examples.push_back({.in = {numbers({4}, dtype, {1, 2, 3, 4}), numbers({4}, dtype, {4, 2, 1, 4})}});
  }
  return examples;
}

template <class F>
struct Comparison {
  explicit Comparison(std::string_view name, std::source_location where = std::source_location::current())
      : op{name, {.infer = infer_comparison, .gradient = no_gradient, .examples = comparisons()}, where},
        kernel{name, "CPU", make_binary_kernel<F, float, std::int32_t, std::int64_t, std::uint8_t, bool>, where} {}
  Registered<Op> op;
  RegisteredKernel kernel;
};

const Comparison<IsEqual> equal_op{"Equal"};
const Comparison<IsNotEqual> not_equal_op{"NotEqual"};
const Comparison<IsLess> less_op{"Less"};
const Comparison<IsLessEqual> less_equal_op{"LessEqual"};
const Comparison<IsGreater> greater_op{"Greater"};
const Comparison<IsGreaterEqual> greater_equal_op{"GreaterEqual"};

// Select(condition, a, b): a where the condition holds, else b.

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
     .examples = {{.in = {numbers({4}, DType::boolean, {1, 0, 0, 1}), {.shape = {4}}, {.shape = {4}}}},
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

// Cast(x){to}: a float becomes a whole number by cutting off its fraction; beyond the range it takes the range's end, and
// NaN becomes 0 (PyTorch leaves both open). To bool: is it not 0?

template <class T>
constexpr bool kIs16Bit = std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>;

template <class To, class From>
To converted(From x) {
  if constexpr (std::is_same_v<To, From>) return x;
  else if constexpr (kIs16Bit<From>) return converted<To>(static_cast<float>(x));
  else if constexpr (kIs16Bit<To>) return To(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, bool>) return x != From(0);
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    constexpr auto low = static_cast<From>(std::numeric_limits<To>::min());
    constexpr auto end = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * From(2);   // a power of two, so exact
    if (x != x) return To(0);
    return x < low ? std::numeric_limits<To>::min() : x >= end ? std::numeric_limits<To>::max() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

template <class To, class From>
void run_cast(KernelContext& c) {
  const From* x = c.in(0).data<From>();
  To* y = c.out().data<To>();
  c.pool().parallel_for(c.out().elements(), 16384, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = converted<To>(x[i]);
  });
}

std::unique_ptr<Kernel> make_cast(const NodeInfo& info) {
  return dispatch(info.in[0].dtype, [&]<class From>() {
    return dispatch(info.out[0].dtype, [&]<class To>() { return stateless(&run_cast<To, From>)(info); });
  });
}

Example cast_example(DType from, DType to, std::vector<double> values, std::vector<double> expected = {}) {
  const auto n = static_cast<std::int64_t>(values.size());
  Example example{.in = {numbers({n}, from, std::move(values))}, .attrs = {{"to", to}}};
  if (!expected.empty()) example.expected = {std::move(expected)};
  return example;
}

const Registered<Op> cast_op{
    "Cast",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(1);
       return {{c.attrs.get<DType>("to"), c.shape(0)}};
     },
     .gradient = [](const Backward& b) -> std::vector<Value> {
       return {is_float(b.x(0).dtype()) && is_float(b.y().dtype()) ? cast(b.dy(), b.x(0).dtype()) : Value{}};
     },
     .examples = {cast_example(DType::float32, DType::float32, {1.5, -2.25}),
                  cast_example(DType::float32, DType::float64, {1.5, -2.25, 0.1}),
                  cast_example(DType::float32, DType::float16, {1.5, 65504, 1e6, 6e-8, 1.0 / 3}),
                  cast_example(DType::float16, DType::float32, {1.5, -0.25, 3}),
                  cast_example(DType::float32, DType::bfloat16, {1.5, 3.0e38, 1.00390625, 1.01171875}),
                  cast_example(DType::bfloat16, DType::float32, {1.5, -0.25, 3}),
                  cast_example(DType::float32, DType::int32, {1.9, -1.9, 3e9, -3e9}, {1, -1, 2147483647, -2147483648.0}),
                  cast_example(DType::float32, DType::int64, {1.9, -1.9, 1e30}, {1, -1, 0x1p63}),
                  cast_example(DType::float32, DType::uint8, {1.9, 255.5, 300, -1}, {1, 255, 255, 0}),
                  cast_example(DType::float32, DType::boolean, {0, 0.1, -3}),
                  cast_example(DType::float64, DType::float32, {0.1, 1e300}),
                  cast_example(DType::boolean, DType::float32, {0, 1, 1}),
                  cast_example(DType::uint8, DType::float32, {0, 1, 255}),
                  cast_example(DType::int32, DType::float32, {0, -7, 16777217}),
                  cast_example(DType::int64, DType::int32, {5, -5}),
                  {.in = {{.shape = {0, 2}}}, .attrs = {{"to", DType::int32}}}}}};
const RegisteredKernel cast_kernel{"Cast", "CPU", make_cast};

}  // namespace
}  // namespace cohort
