#pragma once

// The optimizers' papers, transcribed in double: one plain loop each, which shares nothing with the code under test.

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

namespace cohort::testing {

using Vector = std::vector<double>;

/// What a paper's algorithm works on: weights, three state vectors, the number of the step (from 1), whether the layer
/// decays.
struct Paper {
  Vector w, a, b, c;
  int t = 1;
  bool decays = true;

  [[nodiscard]] std::size_t size() const { return w.size(); }
};
using Rule = std::function<void(Paper&, Vector g, double lr)>;

inline double norm(const Vector& x) { return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0)); }

inline void add_decay(const Paper& p, Vector& g, double lambda) {
  for (std::size_t i = 0; p.decays && i < g.size(); ++i) g[i] += lambda * p.w[i];
}

/// Polyak and Nesterov as PyTorch's documentation has them, `momentum` 0: plain.
inline Rule sgd(double momentum, bool nesterov, double lambda) {
  return [=](Paper& p, Vector g, double lr) {
    add_decay(p, g, lambda);
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.a[i] = p.t == 1 ? g[i] : momentum * p.a[i] + g[i];
      p.w[i] -= lr * (nesterov ? g[i] + momentum * p.a[i] : p.a[i]);
    }
  };
}

/// Nesterov's own two sequences (Sutskever et al. 2013, eq. 3-4), which look ahead: the optimizer's weights are
/// theta + mu v.
inline Rule sutskever(double momentum) {
  return [=](Paper& p, Vector g, double lr) {   // b: theta
    if (p.t == 1) p.b = p.w;
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.a[i] = momentum * p.a[i] - lr * g[i];
      p.b[i] += p.a[i];
      p.w[i] = p.b[i] + momentum * p.a[i];
    }
  };
}

inline Rule adam(double b1, double b2, double epsilon, double l2, double decoupled) {
  return [=](Paper& p, Vector g, double lr) {
    add_decay(p, g, l2);
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.a[i] = b1 * p.a[i] + (1 - b1) * g[i];
      p.b[i] = b2 * p.b[i] + (1 - b2) * g[i] * g[i];
      const double m = p.a[i] / (1 - std::pow(b1, p.t)), v = p.b[i] / (1 - std::pow(b2, p.t));
      p.w[i] -= lr * (m / (std::sqrt(v) + epsilon) + (p.decays ? decoupled : 0) * p.w[i]);
    }
  };
}

inline Rule adagrad(double epsilon, double lambda) {
  return [=](Paper& p, Vector g, double lr) {
    add_decay(p, g, lambda);
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.a[i] += g[i] * g[i];
      p.w[i] -= lr * g[i] / (std::sqrt(p.a[i]) + epsilon);
    }
  };
}

inline Rule rmsprop(double rho, double momentum, double epsilon, bool centered, double lambda) {
  return [=](Paper& p, Vector g, double lr) {
    add_decay(p, g, lambda);
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.a[i] = rho * p.a[i] + (1 - rho) * g[i] * g[i];
      p.b[i] = rho * p.b[i] + (1 - rho) * g[i];
      const double deviation = std::sqrt(std::max(0.0, p.a[i] - (centered ? p.b[i] * p.b[i] : 0)));
      p.c[i] = momentum * p.c[i] + g[i] / (deviation + epsilon);
      p.w[i] -= lr * p.c[i];
    }
  };
}

/// Layer-wise rates of lars and lamb are 1 where a norm is 0, on which the papers are silent.
inline Rule lars(double trust, double momentum, double lambda) {
  return [=](Paper& p, Vector g, double lr) {
    const bool scaled = p.decays && norm(p.w) > 0 && norm(g) > 0;
    const double local = scaled ? trust * norm(p.w) / (norm(g) + lambda * norm(p.w)) : 1;
    add_decay(p, g, lambda);
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.a[i] = momentum * p.a[i] + lr * local * g[i];
      p.w[i] -= p.a[i];
    }
  };
}

inline Rule lamb(double b1, double b2, double epsilon, double lambda) {
  return [=](Paper& p, const Vector& g, double lr) {
    Vector u(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.a[i] = b1 * p.a[i] + (1 - b1) * g[i];
      p.b[i] = b2 * p.b[i] + (1 - b2) * g[i] * g[i];
      const double m = p.a[i] / (1 - std::pow(b1, p.t)), v = p.b[i] / (1 - std::pow(b2, p.t));
      u[i] = m / (std::sqrt(v) + epsilon) + (p.decays ? lambda * p.w[i] : 0);
    }
    const double ratio = p.decays && norm(p.w) > 0 && norm(u) > 0 ? norm(p.w) / norm(u) : 1;
    for (std::size_t i = 0; i < p.size(); ++i) p.w[i] -= lr * ratio * u[i];
  };
}

}  // namespace cohort::testing
