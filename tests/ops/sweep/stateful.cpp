// Ops that draw random numbers or write variables.
#include "cohort/base/random.hpp"
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

/// Element j of global row r is kept if its word of the generator is not below rate · 2³²: word k % 4 of value k / 4 with
/// k = r · row elements + j, in the node's stream and under a seed made of the run's seed, that stream, and the step.
std::vector<Result> dropped(const SweepCase& one, const std::vector<Scalars>& in) {
  const Shape& x = one.in[0].shape;
  const double rate = one.attrs.get<double>("rate");
  const std::uint64_t stream = stream_of(one.attrs.get<std::string>("stream", "node"));
  const auto key = philox(one.options.seed, stream, static_cast<std::uint64_t>(one.options.step));
  const std::int64_t rows = x.rank() == 0 ? 1 : x[0], elements = rows == 0 ? 0 : x.elements() / rows;
  Result y{x};
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    const std::int64_t row = one.options.row_offset + i / elements * one.options.row_stride,
                       k = row * elements + i % elements;
    const auto words = philox((std::uint64_t{key[0]} << 32) | key[1], stream, static_cast<std::uint64_t>(k / 4));
    const bool kept = static_cast<double>(words[static_cast<std::size_t>(k % 4)]) >= std::floor(rate * 0x1p32);
    y.values.push_back(kept ? in[0][i] * (1 / (1 - rate)) : Scalar(0));
  }
  return {y};
}

const Registered<Sweep> dropout{"Dropout",
                                {.draw =
                                     [](Draw& draw) {
                                       SweepCase one{.in = {draw.floats(draw.shape(0, 4))},
                                                     .attrs = {{"rate", draw.chance(0.2) ? 0.0 : draw.uniform(0, 0.95)}}};
                                       if (draw.chance()) one.attrs.set("stream", draw.chance() ? "a" : "b");
                                       one.options = {.seed = draw.next_seed(),
                                                      .step = draw.below(1000),
                                                      .row_offset = draw.below(100),
                                                      .row_stride = draw.between(1, 9)};
                                       return one;
                                     },
                                 .formula = dropped,
                                 .tolerance = 1e-6}};

SweepCase variable_and_value(Draw& draw) {
  const Shape shape = draw.shape(0, 3);
  return {.in = {draw.floats(shape), draw.floats(shape)}, .known = true};
}

const Registered<Sweep> assign{"Assign", {.draw = variable_and_value,
                                          .formula =
                                              [](const SweepCase& one, const std::vector<Scalars>& in) {
                                                return std::vector<Result>{{one.in[0].shape, in[1]}};
                                              },
                                          .writes_first = true}};
const Registered<Sweep> move_towards{"MoveTowards", {.draw =
                                                         [](Draw& draw) {
                                                           SweepCase one = variable_and_value(draw);
                                                           one.attrs.set("decay", draw.chance(0.2)
                                                                                      ? draw.one_of<double>({0, 1})
                                                                                      : draw.uniform(0, 1));
                                                           return one;
                                                         },
                                                     .formula =
                                                         [](const SweepCase& one, const std::vector<Scalars>& in) {
                                                           const double decay = one.attrs.get<double>("decay");
                                                           Result y{one.in[0].shape};
                                                           for (std::size_t i = 0; i < in[0].size(); ++i) {
                                                             y.values.push_back(decay * in[0][i] + (1 - decay) * in[1][i]);
                                                           }
                                                           return std::vector<Result>{y};
                                                         },
                                                     .writes_first = true}};

}  // namespace
}  // namespace cohort::test
