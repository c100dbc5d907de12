#include "exec/initializer.hpp"

#include <fmt/core.h>

#include <cmath>
#include <vector>

#include "cohort/base/random.hpp"

namespace cohort {
namespace {

/// Inputs and outputs per unit of a weight [in, out] or [h, w, in, out].
struct Fans {
  double in = 1, out = 1;
};
Fans fans_of(const Shape& shape) {
  double receptive = 1;
  for (std::size_t i = 0; i + 2 < shape.rank(); ++i) receptive *= static_cast<double>(shape[static_cast<std::int64_t>(i)]);
  if (shape.rank() < 2) return {static_cast<double>(shape.elements()), static_cast<double>(shape.elements())};
  return {receptive * static_cast<double>(shape[-2]), receptive * static_cast<double>(shape[-1])};
}

}  // namespace

void initialise(const Tensor& storage, const NodeData& variable, std::uint64_t seed) {
  const auto& init = variable.attrs.get<std::string>("init");
  const double scale = variable.attrs.get<double>("scale");
  const Fans fans = fans_of(storage.shape());
  double constant = 0, bound = 0, deviation = 0;
  if (init == "zeros") constant = 0;
  else if (init == "ones") constant = 1;
  else if (init == "constant") constant = scale;
  else if (init == "normal") deviation = scale;
  else if (init == "uniform") bound = scale;
  else if (init == "glorot_uniform") bound = scale * std::sqrt(6.0 / (fans.in + fans.out));   // Glorot & Bengio 2010, eq. 16
  else if (init == "he_normal") deviation = scale * std::sqrt(2.0 / fans.in);                 // He et al. 2015, eq. 10
  else if (init == "he_uniform") bound = scale * std::sqrt(6.0 / fans.in);
  else {
    fail(Code::invalid_argument, fmt::format("variable '{}': unknown init '{}', known: constant glorot_uniform he_normal "
                                             "he_uniform normal ones uniform zeros",
                                             variable.name, init));
  }
  const std::uint64_t stream = stream_of(variable.name);
  std::vector<float> values(static_cast<std::size_t>(storage.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (deviation > 0) values[i] = static_cast<float>(deviation) * random_normal(seed, stream, i);
    else if (bound > 0) values[i] = static_cast<float>(bound) * (2.f * random_uniform(seed, stream, i) - 1.f);
    else values[i] = static_cast<float>(constant);
  }
  storage.copy_from(Tensor::of(storage.shape(), values));
}

}  // namespace cohort
