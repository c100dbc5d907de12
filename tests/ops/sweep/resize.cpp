// Images in another size, by the formulas of the op's description.
#include <algorithm>
#include <cmath>

#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

const Registered<Sweep> resize{
    "Resize",
    {.draw =
         [](Draw& draw) {
           const Shape x{draw.size(), draw.size_above_0(), draw.size_above_0(), draw.size()};
           const std::int64_t height = draw.size_above_0(), width = draw.size_above_0();
           draw.work(static_cast<double>(4 * x[0] * height * width * x[3]));
           return SweepCase{
               .in = {draw.floats(x)},
               .attrs = {{"height", height}, {"width", width}, {"method", draw.chance() ? "nearest" : "bilinear"}}};
         },
     .formula =
         [](const SweepCase& one, const std::vector<Scalars>& in) {
           const Shape& x = one.in[0].shape;
           Result y{{x[0], one.attrs.get<std::int64_t>("height"), one.attrs.get<std::int64_t>("width"), x[3]}};
           const bool nearest = one.attrs.get<std::string>("method") == "nearest";
           for (std::int64_t i = 0; i < y.shape.elements(); ++i) {
             const Index to = index_of(y.shape, i);
             if (nearest) {
               y.values.push_back(
                   in[0][position_of(x, {to[0], to[1] * x[1] / y.shape[1], to[2] * x[2] / y.shape[2], to[3]})]);
               continue;
             }
             const auto place = [&](std::int64_t d) {  // in the image, between the centres of its first and last pixel
               const double centre =
                   (static_cast<double>(to[d]) + 0.5) * static_cast<double>(x[d]) / static_cast<double>(y.shape[d]) - 0.5;
               return std::clamp(centre, 0.0, static_cast<double>(x[d] - 1));
             };
             Scalar sum;
             for (std::int64_t row = 0; row < x[1]; ++row) {
               const double a = 1 - std::fabs(place(1) - static_cast<double>(row));
               for (std::int64_t column = 0; a > 0 && column < x[2]; ++column) {
                 const double b = 1 - std::fabs(place(2) - static_cast<double>(column));
                 if (b > 0) sum += a * b * in[0][position_of(x, {to[0], row, column, to[3]})];
               }
             }
             y.values.push_back(sum);
           }
           return std::vector<Result>{y};
         },
     .covers = {"ResizeGrad"}}};

}  // namespace
}  // namespace cohort::test
