#include <algorithm>
#include <cmath>

#include "cohort/base/random.hpp"
#include "ops/sweep/sweep.hpp"

namespace cohort::test {

std::uint64_t Draw::next_seed() {
  const auto words = philox(seed_, stream_of("sweep"), counter_++);
  return (std::uint64_t{words[0]} << 32) | words[1];
}

std::int64_t Draw::below(std::int64_t n) {
  again_if(n < 1);
  return static_cast<std::int64_t>(((next_seed() >> 32) * static_cast<std::uint64_t>(n)) >> 32);
}
std::int64_t Draw::between(std::int64_t low, std::int64_t high) { return low + below(high - low + 1); }
double Draw::uniform(double low, double high) {
  return static_cast<double>(static_cast<float>(low + (high - low) * static_cast<double>(next_seed() >> 32) * 0x1p-32));
}
bool Draw::chance(double p) { return uniform(0, 1) < p; }

std::int64_t Draw::size_above_0() {
  static const std::vector<std::int64_t> small{1, 2, 3, 5, 7, 8, 9, 10},
      large{12, 15, 16, 17, 20, 31, 32, 33, 50, 63, 64, 65};
  return chance(0.65) ? one_of(small) : one_of(large);
}
std::int64_t Draw::size() { return chance(0.03) ? 0 : size_above_0(); }

Shape Draw::shape(std::int64_t least_rank, std::int64_t most_rank) {
  Shape result;
  for (std::int64_t rank = between(least_rank, most_rank); rank > 0; --rank) result.append(size());
  return result;
}

std::int64_t Draw::axis(std::size_t rank) {
  const std::int64_t axis = below(static_cast<std::int64_t>(rank));
  return chance() ? axis : axis - static_cast<std::int64_t>(rank);
}

Array Draw::floats(const Shape& shape, double low, double high) {
  work(static_cast<double>(shape.elements()));
  Array result{.shape = shape, .values = std::vector<double>(static_cast<std::size_t>(shape.elements()))};
  for (double& x : result.values) x = uniform(low, high);
  return result;
}

Array Draw::whole(const Shape& shape, DType dtype, std::int64_t low, std::int64_t high) {
  work(static_cast<double>(shape.elements()));
  again_if(shape.elements() > 0 && high < low);
  Array result{shape, dtype, std::vector<double>(static_cast<std::size_t>(shape.elements()))};
  for (double& x : result.values) x = static_cast<double>(between(low, high));
  return result;
}

bool Draw::with_nan(Array& x) {
  if (x.values.empty() || !chance(0.1)) return false;
  for (std::int64_t n = between(1, 3); n > 0; --n)
    x.values[static_cast<std::size_t>(below(std::ssize(x.values)))] = kNotANumber;
  return true;
}

Index index_of(const Shape& shape, std::int64_t at) {
  Index index(shape.rank());
  for (std::size_t d = shape.rank(); d-- > 0;) {
    const std::int64_t size = shape[static_cast<std::int64_t>(d)];
    index[d] = at % size;
    at /= size;
  }
  return index;
}

std::int64_t position_of(const Shape& shape, const Index& index) {
  std::int64_t at = 0;
  for (std::size_t d = 0; d < shape.rank(); ++d) at = at * shape[static_cast<std::int64_t>(d)] + index[d];
  return at;
}

std::int64_t broadcast_position(const Shape& shape, const Index& index) {
  const std::size_t lead = index.size() - shape.rank();
  std::int64_t at = 0;
  for (std::size_t d = 0; d < shape.rank(); ++d) {
    const std::int64_t size = shape[static_cast<std::int64_t>(d)];
    at = at * size + (size == 1 ? 0 : index[lead + d]);
  }
  return at;
}

Shape draw_broadcast(Draw& draw, const Shape& shape) {
  const std::int64_t rank = static_cast<std::int64_t>(shape.rank()), lead = draw.chance(0.3) ? draw.between(0, rank) : 0;
  const bool some = draw.chance();
  Shape result;
  for (std::int64_t d = lead; d < rank; ++d) result.append(some && draw.chance(0.4) ? 1 : shape[d]);
  return result;
}

}  // namespace cohort::test
