// Cast(x){to}: a float becomes a whole number by cutting off its fraction; beyond the range it takes the range's end, and
// NaN becomes 0 (PyTorch leaves both open). To bool: is it not 0?
#include <limits>
#include <type_traits>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

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
  Example example{.in = {{.shape = {n}, .dtype = from, .values = std::move(values)}}, .attrs = {{"to", to}}};
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
