#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace cohort::test {

/// A double that remembers what it was made of, so that a formula that is written down once gives its gradient as well
/// (reverse mode: Griewank & Walther, "Evaluating derivatives", 2008, chapter 3). Numbers that depend on nothing tracked
/// remember nothing.
class Scalar {
 public:
  Scalar() = default;
  Scalar(double value) : value_(value) {}   // NOLINT: implicit, constants of formulas are plain numbers

  /// A number that gradients are wanted for.
  static Scalar tracked(double value) { return made(value, {}, 0, {}, 0, true); }
  /// A function of a, and of b, with these derivatives.
  static Scalar of(double value, const Scalar& a, double da) { return made(value, a, da, {}, 0); }
  static Scalar of(double value, const Scalar& a, double da, const Scalar& b, double db) {
    return made(value, a, da, b, db);
  }

  [[nodiscard]] double value() const { return value_; }

  /// Forgets everything that was tracked.
  static void clear() { tape().clear(); }

  /// Σ weight · ∂number/∂x of all pairs (number, weight), for everything that was tracked; see `in`.
  static std::vector<double> gradients(std::span<const std::pair<Scalar, double>> numbers) {
    std::vector<double> sums(tape().size());
    for (const auto& [number, weight] : numbers) {
      if (number.at_ >= 0) sums[number.at_] += weight;
    }
    for (std::size_t i = sums.size(); i-- > 0;) {
      const Entry& entry = tape()[i];
      if (sums[i] == 0) continue;         // what nobody asks for adds nothing, not even 0 · ∞
      if (entry.a >= 0) sums[entry.a] += entry.da * sums[i];
      if (entry.b >= 0) sums[entry.b] += entry.db * sums[i];
    }
    return sums;
  }
  /// This number's part of what `gradients` gave.
  [[nodiscard]] double in(const std::vector<double>& gradients) const { return at_ < 0 ? 0 : gradients[at_]; }

  friend Scalar operator+(const Scalar& a, const Scalar& b) { return of(a.value_ + b.value_, a, 1, b, 1); }
  friend Scalar operator-(const Scalar& a, const Scalar& b) { return of(a.value_ - b.value_, a, 1, b, -1); }
  friend Scalar operator*(const Scalar& a, const Scalar& b) { return of(a.value_ * b.value_, a, b.value_, b, a.value_); }
  friend Scalar operator/(const Scalar& a, const Scalar& b) {
    const double y = a.value_ / b.value_;
    return of(y, a, 1 / b.value_, b, -y / b.value_);
  }
  friend Scalar operator-(const Scalar& a) { return of(-a.value_, a, -1); }
  Scalar& operator+=(const Scalar& b) { return *this = *this + b; }

 private:
  struct Entry {
    int a, b;              // what it was made of, by position; -1: nothing
    double da, db;
  };
  static std::vector<Entry>& tape() {
    static thread_local std::vector<Entry> entries;
    return entries;
  }
  static Scalar made(double value, const Scalar& a, double da, const Scalar& b, double db, bool leaf = false) {
    Scalar result(value);
    if (!leaf && a.at_ < 0 && b.at_ < 0) return result;
    result.at_ = static_cast<int>(tape().size());
    tape().push_back({a.at_, b.at_, da, db});
    return result;
  }

  double value_ = 0;
  int at_ = -1;
};

using Scalars = std::vector<Scalar>;

inline Scalar exp(const Scalar& x) {
  const double y = std::exp(x.value());
  return Scalar::of(y, x, y);
}
inline Scalar log(const Scalar& x) { return Scalar::of(std::log(x.value()), x, 1 / x.value()); }
inline Scalar sqrt(const Scalar& x) {
  const double y = std::sqrt(x.value());
  return Scalar::of(y, x, 0.5 / y);
}
inline Scalar tanh(const Scalar& x) {
  const double y = std::tanh(x.value());
  return Scalar::of(y, x, 1 - y * y);
}
inline Scalar sigmoid(const Scalar& x) {
  const double y = 1 / (1 + std::exp(-x.value()));
  return Scalar::of(y, x, y * (1 - y));
}
inline Scalar erf(const Scalar& x) {
  return Scalar::of(std::erf(x.value()), x, 1.1283791670955126 * std::exp(-x.value() * x.value()));
}
inline Scalar softplus(const Scalar& x) {
  const double v = x.value();
  return Scalar::of(std::fmax(v, 0) + std::log1p(std::exp(-std::fabs(v))), x, 1 / (1 + std::exp(-v)));
}
/// NaN stays NaN and lets its gradient through.
inline Scalar relu(const Scalar& x) { return x.value() <= 0 ? Scalar(0) : x; }
/// x Φ(x).
inline Scalar gelu(const Scalar& x) { return 0.5 * x * (1.0 + erf(x * 0.70710678118654752)); }

}  // namespace cohort::test
