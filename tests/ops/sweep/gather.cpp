// Rows by their numbers, unit vectors, and conversions between element types.
#include <cmath>

#include "cohort/tensor/dtype.hpp"
#include "ops/op_cases.hpp"
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

Shape rest_of(Shape shape) {
  shape.erase(0);
  return shape;
}
Shape joined(Shape a, const Shape& b) {
  for (const std::int64_t size : b) a.append(size);
  return a;
}
std::size_t row_of(const Scalar& index) { return static_cast<std::size_t>(index.value()); }

const Registered<Sweep> gather{
    "Gather",
    {.draw =
         [](Draw& draw) {
           const Shape x = draw.shape(1, 3), indices = draw.shape(0, 2);
           draw.work(static_cast<double>(indices.elements() * rest_of(x).elements()));
           const Array table = draw.chance(0.8) ? draw.floats(x) : draw.whole(x, DType::int64, -99, 99);
           return SweepCase{.in = {table, draw.whole(indices, DType::int32, 0, x[0] - 1)}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape row = rest_of(one.in[0].shape);
           Result y{joined(one.in[1].shape, row)};
           const auto n = static_cast<std::size_t>(row.elements());
           for (const Scalar& index : in[1]) {
             for (std::size_t j = 0; j < n; ++j) y.values.push_back(in[0][row_of(index) * n + j]);
           }
           return std::vector<Result>{y};
         },
     .covers = {"GatherGrad"}}};

const Registered<Sweep> gather_grad{
    "GatherGrad",
    {.draw =
         [](Draw& draw) {
           const Shape like = draw.shape(1, 3), indices = draw.shape(0, 2);
           return SweepCase{.in = {draw.floats(joined(indices, rest_of(like))),
                                   draw.whole(indices, DType::int32, 0, like[0] - 1), draw.floats(like)}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           Result dx{one.in[2].shape, zeros(one.in[2].shape)};
           const auto n = static_cast<std::size_t>(rest_of(dx.shape).elements());
           for (std::size_t i = 0; i < in[1].size(); ++i) {
             for (std::size_t j = 0; j < n; ++j) dx.values[row_of(in[1][i]) * n + j] += in[0][i * n + j];
           }
           return std::vector<Result>{dx};
         }}};

const Registered<Sweep> one_hot{
    "OneHot",
    {.draw =
         [](Draw& draw) {
           const Shape indices = draw.shape(0, 3);
           const std::int64_t depth = draw.size_above_0();
           draw.work(static_cast<double>(indices.elements() * depth));
           return SweepCase{.in = {draw.whole(indices, DType::int32, 0, depth - 1)}, .attrs = {{"depth", depth}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const std::int64_t depth = one.attrs.get<std::int64_t>("depth");
           Result y{joined(one.in[0].shape, {depth})};
           for (const Scalar& index : in[0]) {
             for (std::int64_t k = 0; k < depth; ++k) y.values.emplace_back(static_cast<double>(k) == index.value() ? 1 : 0);
           }
           return std::vector<Result>{y};
         }}};

/// What a number becomes. Fractions are cut off, the ends of a range hold what is beyond them, NaN becomes 0.
double converted(double x, DType to) {
  const auto whole = [x](double low, double high) { return std::isnan(x) ? 0 : std::clamp(std::trunc(x), low, high); };
  switch (to) {
    case DType::int32: return whole(-0x1p31, 0x1p31 - 1);
    case DType::int64: return whole(-0x1p63, 0x1p63);
    case DType::uint8: return whole(0, 255);
    case DType::boolean: return x != 0 ? 1 : 0;
    case DType::float16: return static_cast<double>(static_cast<float>(float16(static_cast<float>(x))));
    case DType::bfloat16: return static_cast<double>(static_cast<float>(bfloat16(static_cast<float>(x))));
    case DType::float32: return static_cast<double>(static_cast<float>(x));
    case DType::float64: return x;
  }
  return x;
}

const std::vector<DType> kTypes{DType::float32, DType::float64, DType::float16, DType::bfloat16,
                                DType::int32,   DType::int64,   DType::uint8,   DType::boolean};

const Registered<Sweep> cast{
    "Cast",
    {.draw =
         [](Draw& draw) {
           const DType from = draw.chance() ? DType::float32 : draw.one_of(kTypes), to = draw.one_of(kTypes);
           const Shape shape = draw.shape(0, 3);
           Array x = from == DType::float32
                         ? draw.floats(shape, -300, 300)
                         : draw.whole(shape, from, from == DType::uint8 || from == DType::boolean ? 0 : -99,
                                      from == DType::boolean ? 1 : 99);
           // Whole numbers outside the new type's range wrap around; that is asked for nowhere.
           if (from == DType::int32 || from == DType::int64) draw.again_if(to == DType::uint8);
           if (from == DType::float32) draw.with_nan(x);
           return SweepCase{.in = {x}, .attrs = {{"to", to}}, .gradients = false};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           Result y{one.in[0].shape};
           for (const Scalar& x : in[0]) y.values.emplace_back(converted(x.value(), one.attrs.get<DType>("to")));
           return std::vector<Result>{y};
         },
     .tolerance = 0}};

}  // namespace
}  // namespace cohort::test
