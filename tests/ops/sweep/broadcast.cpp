// Functions of two or three values with NumPy's broadcasting.
#include <array>

#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

/// The shape of all inputs broadcast together, by NumPy's rule.
Shape together(const SweepCase& one) {
  std::size_t rank = 0;
  for (const Array& x : one.in) rank = std::max(rank, x.shape.rank());
  Shape result;
  for (std::size_t d = 0; d < rank; ++d) {
    std::int64_t size = 1;
    for (const Array& x : one.in) {
      const std::size_t lead = rank - x.shape.rank();
      if (d >= lead && x.shape[static_cast<std::int64_t>(d - lead)] != 1)
        size = x.shape[static_cast<std::int64_t>(d - lead)];
    }
    result.append(size);
  }
  return result;
}

template <class F>
auto each(F f) {
  return [f](const SweepCase& one, const std::vector<Scalars>& in) {
    Result y{together(one)};
    for (std::int64_t i = 0; i < y.shape.elements(); ++i) {
      const Index index = index_of(y.shape, i);
      const auto x = [&](std::size_t k) -> const Scalar& { return in[k][broadcast_position(one.in[k].shape, index)]; };
      y.values.push_back(f(x));
    }
    return std::vector<Result>{y};
  };
}

Array numbers(Draw& draw, const Shape& shape, DType dtype) {
  if (dtype == DType::boolean) return draw.whole(shape, dtype, 0, 1);
  if (dtype == DType::uint8) return draw.whole(shape, dtype, 0, 5);
  if (dtype != DType::float32) return draw.whole(shape, dtype, -5, 5);
  return draw.chance(0.2) ? draw.whole(shape, dtype, -3, 3) : draw.floats(shape, -2, 2);
}

/// Two shapes that broadcast to one of up to five dimensions.
std::array<Shape, 2> two_shapes(Draw& draw) {
  const Shape whole = draw.shape(0, draw.chance(0.8) ? 3 : 5);
  draw.work(static_cast<double>(whole.elements()));
  std::array<Shape, 2> result{whole, draw_broadcast(draw, whole)};
  if (draw.chance(0.2)) result[0] = draw_broadcast(draw, whole);
  if (draw.chance()) std::swap(result[0], result[1]);
  return result;
}

template <class F>
Sweep binary(F f, std::vector<DType> types, bool with_nan = true) {
  return {.draw =
              [types, with_nan](Draw& draw) {
                const DType dtype = draw.chance() ? types[0] : draw.one_of(types);
                SweepCase one;
                for (const Shape& shape : two_shapes(draw)) one.in.push_back(numbers(draw, shape, dtype));
                if (dtype == DType::float32 && with_nan && draw.with_nan(one.in[draw.below(2)])) one.gradients = false;
                return one;
              },
          .formula = each([f](const auto& x) { return f(x(0), x(1)); }),
          .tolerance = 1e-5};       // gradients are sums over what was repeated
}

/// Of two equal ones each gets half of the gradient.
Scalar larger(const Scalar& a, const Scalar& b) {
  if (std::isnan(a.value()) || std::isnan(b.value())) return kNotANumber;
  return a.value() > b.value() ? a : a.value() < b.value() ? b : 0.5 * (a + b);
}
Scalar smaller(const Scalar& a, const Scalar& b) { return -larger(-a, -b); }

const std::vector<DType> kNumbers{DType::float32, DType::int32, DType::int64}, kFloats{DType::float32},
    kComparable{DType::float32, DType::int32, DType::int64, DType::uint8, DType::boolean};

Sweep quotient() {
  Sweep sweep = binary([](const Scalar& a, const Scalar& b) { return a / b; }, kFloats);
  sweep.draw = [](Draw& draw) {
    const auto [a, b] = two_shapes(draw);
    return SweepCase{.in = {draw.floats(a), draw.floats(b, 0.5, 2)}};
  };
  return sweep;
}

const Registered<Sweep> arithmetic[]{
    {"Add", binary([](const Scalar& a, const Scalar& b) { return a + b; }, kNumbers)},
    {"Sub", binary([](const Scalar& a, const Scalar& b) { return a - b; }, kNumbers)},
    {"Mul", binary([](const Scalar& a, const Scalar& b) { return a * b; }, kNumbers)},
    {"Div", quotient()},
    {"Maximum", binary(larger, kFloats)},
    {"Minimum", binary(smaller, kFloats)},
};

template <class F>
Sweep comparison(F f) {
  return binary([f](const Scalar& a, const Scalar& b) { return Scalar(f(a.value(), b.value()) ? 1 : 0); }, kComparable);
}

const Registered<Sweep> comparisons[]{
    {"Equal", comparison([](double a, double b) { return a == b; })},
    {"NotEqual", comparison([](double a, double b) { return a != b; })},
    {"Less", comparison([](double a, double b) { return a < b; })},
    {"LessEqual", comparison([](double a, double b) { return a <= b; })},
    {"Greater", comparison([](double a, double b) { return a > b; })},
    {"GreaterEqual", comparison([](double a, double b) { return a >= b; })},
};

const Registered<Sweep> select{
    "Select",
    {.draw =
         [](Draw& draw) {
           const auto [a, b] = two_shapes(draw);
           const Shape whole = together({.in = {{a}, {b}}});
           const DType dtype =
               draw.chance(0.7)
                   ? DType::float32
                   : draw.one_of<DType>({DType::float64, DType::bfloat16, DType::int32, DType::uint8, DType::boolean});
           const auto numbers_of = [&](const Shape& shape) {
             return dtype == DType::float32 ? draw.floats(shape) : draw.whole(shape, dtype, 0, 1);
           };
           return SweepCase{
               .in = {draw.whole(draw_broadcast(draw, whole), DType::boolean, 0, 1), numbers_of(a), numbers_of(b)}};
         },
     .formula = each([](const auto& x) { return x(0).value() != 0 ? x(1) : x(2); })}};

}  // namespace
}  // namespace cohort::test
