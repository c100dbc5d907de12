#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "cohort/base/registry.hpp"
#include "cohort/exec/session.hpp"
#include "ops/sweep/scalar.hpp"

namespace cohort {
namespace test {
struct Sweep;
}
template <>
inline constexpr std::string_view kKindOf<test::Sweep> = "sweep";
}  // namespace cohort

/// Every op at shapes and attributes that nobody thought of: each file here has, for one family of ops, a way to draw cases
/// and the plain formula of what comes out. sweep_test.cpp runs the op and compares.
namespace cohort::test {

/// A dense array of the reference: numbers that the element type can hold.
struct Array {
  Shape shape{};
  DType dtype = DType::float32;
  std::vector<double> values{};
};

/// One node: its inputs and attributes.
struct SweepCase {
  std::vector<Array> in{};
  Attrs attrs{};
  bool known = false;         ///< the rule wants to know all shapes when the graph is built
  bool gradients = true;      ///< false: only the results are compared
  RunOptions options{};       ///< for ops that draw random numbers
};

/// One output of the formula.
struct Result {
  Shape shape{};
  Scalars values{};
};

/// Thrown by a `Draw` where what was drawn is too large or makes no sense: the next case is drawn instead.
struct DrawAgain {};

/// The random numbers of one case, all a function of its seed.
class Draw {
 public:
  /// `most`: elements of an array, and operations of the formula.
  Draw(std::uint64_t seed, double most) : seed_(seed), most_(most) {}

  [[nodiscard]] std::int64_t below(std::int64_t n);                          ///< 0 … n − 1
  [[nodiscard]] std::int64_t between(std::int64_t low, std::int64_t high);   ///< both included
  [[nodiscard]] bool chance(double p = 0.5);
  [[nodiscard]] double uniform(double low, double high);                     ///< a float32
  template <class T>
  [[nodiscard]] T one_of(const std::vector<T>& list) { return list[static_cast<std::size_t>(below(std::ssize(list)))]; }

  /// A dimension: mostly small, around multiples of what vectors hold, sometimes 0.
  [[nodiscard]] std::int64_t size();
  [[nodiscard]] std::int64_t size_above_0();
  [[nodiscard]] Shape shape(std::int64_t least_rank, std::int64_t most_rank);
  /// An axis of that rank, sometimes counted from the end.
  [[nodiscard]] std::int64_t axis(std::size_t rank);

  [[nodiscard]] Array floats(const Shape& shape, double low = -1, double high = 1);
  [[nodiscard]] Array whole(const Shape& shape, DType dtype, std::int64_t low, std::int64_t high);   ///< both included
  /// Some of the elements, or none, become NaN; returns whether any did.
  bool with_nan(Array& x);

  void again_if(bool bad) const {
    if (bad) throw DrawAgain{};
  }
  /// The formula needs so many multiplications, or additions where it has none.
  void work(double operations) const { again_if(operations > most_); }

  std::uint64_t next_seed();

 private:
  std::uint64_t seed_, counter_ = 0;
  double most_;
};

/// How one op is drawn and what it computes.
struct Sweep {
  std::function<SweepCase(Draw&)> draw;
  /// The outputs from the inputs; comparisons of `Scalar` go by value.
  std::function<std::vector<Result>(const SweepCase&, const std::vector<Scalars>&)> formula;
  /// Ops that have no sweep of their own because `gradients()` makes them of this one; checked.
  std::vector<std::string> covers{};
  double tolerance = 1e-5;    ///< of the largest magnitude of an output or a gradient, at least 1
  bool writes_first = false;  ///< input 0 is a variable that the op writes
};
// Positions in dense arrays, for formulas.

using Index = std::vector<std::int64_t>;

[[nodiscard]] Index index_of(const Shape& shape, std::int64_t at);
[[nodiscard]] std::int64_t position_of(const Shape& shape, const Index& index);
/// Where the element at `index` of a larger array lies in one of `shape` that is broadcast to it.
[[nodiscard]] std::int64_t broadcast_position(const Shape& shape, const Index& index);
/// A shape that broadcasts to `shape`: some dimensions 1, some leading ones left out.
[[nodiscard]] Shape draw_broadcast(Draw& draw, const Shape& shape);

[[nodiscard]] inline Scalars zeros(const Shape& shape) { return Scalars(static_cast<std::size_t>(shape.elements())); }
inline constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

}  // namespace cohort::test
