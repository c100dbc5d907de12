// Ops over the positions of a sequence: attention and long short-term memory.
#include <cmath>

#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

SweepCase drawn_attention(Draw& draw) {
  const std::int64_t heads = draw.between(1, 5), width = draw.size_above_0(), positions = draw.size(), samples = draw.size();
  draw.work(static_cast<double>(samples * heads * positions * positions * width * 2));
  SweepCase one{.in = {draw.floats({samples, positions, 3 * heads * width}, -2, 2)}, .attrs = {{"heads", heads}}};
  if (draw.chance()) one.attrs.set("causal", draw.chance());
  return one;
}

std::vector<Result> attention(const SweepCase& one, const std::vector<Scalars>& in) {
  const Shape& qkv = one.in[0].shape;
  const std::int64_t heads = one.attrs.get<std::int64_t>("heads"), n = qkv[1], all = qkv[2] / 3, width = all / heads;
  const bool causal = one.attrs.get("causal", true);
  Result y{{qkv[0], n, all}}, log_sums{{qkv[0], heads, n}};
  y.values = zeros(y.shape);
  for (std::int64_t s = 0; s < qkv[0]; ++s) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto at = [&](std::int64_t part, std::int64_t i, std::int64_t j) -> const Scalar& {
        return in[0][(s * n + i) * qkv[2] + part * all + h * width + j];
      };
      for (std::int64_t i = 0; i < n; ++i) {
        Scalars scores;
        Scalar sum;
        for (std::int64_t k = 0; k < (causal ? i + 1 : n); ++k) {
          Scalar score;
          for (std::int64_t j = 0; j < width; ++j) score += at(0, i, j) * at(1, k, j);
          scores.push_back(score / std::sqrt(static_cast<double>(width)));
          sum += exp(scores.back());
        }
        const Scalar log_sum = log(sum);
        log_sums.values.push_back(log_sum);
        for (std::size_t k = 0; k < scores.size(); ++k) {
          const Scalar weight = exp(scores[k] - log_sum);
          for (std::int64_t j = 0; j < width; ++j) {
            y.values[(s * n + i) * all + h * width + j] += weight * at(2, static_cast<std::int64_t>(k), j);
          }
        }
      }
    }
  }
  return {y, log_sums};
}

const Registered<Sweep> attention_op{
    "Attention", {.draw = drawn_attention, .formula = attention, .covers = {"AttentionGrad"}, .tolerance = 2e-5}};

SweepCase drawn_lstm(Draw& draw) {
  const std::int64_t samples = draw.size(), positions = draw.size(), units = draw.size();
  draw.work(static_cast<double>(samples * positions * units * (4 * units + 8)));
  return {.in = {draw.floats({samples, positions, 4 * units}, -2, 2), draw.floats({units, 4 * units}, -0.5, 0.5)}};
}

std::vector<Result> lstm(const SweepCase& one, const std::vector<Scalars>& in) {
  const Shape& a = one.in[0].shape;
  const std::int64_t units = a[2] / 4;
  Result h{{a[0], a[1], units}}, cells = h, gates{a, zeros(a)};
  h.values = cells.values = zeros(h.shape);
  for (std::int64_t s = 0; s < a[0]; ++s) {
    for (std::int64_t t = 0; t < a[1]; ++t) {
      const std::int64_t at = s * a[1] + t;
      for (std::int64_t j = 0; j < a[2]; ++j) {
        Scalar z = in[0][at * a[2] + j];
        for (std::int64_t i = 0; t > 0 && i < units; ++i) z += h.values[(at - 1) * units + i] * in[1][i * a[2] + j];
        gates.values[at * a[2] + j] = j / std::max<std::int64_t>(units, 1) == 2 ? tanh(z) : sigmoid(z);      // i, f, g, o
      }
      for (std::int64_t j = 0; j < units; ++j) {
        const auto gate = [&](std::int64_t k) { return gates.values[at * a[2] + k * units + j]; };
        const Scalar before = t > 0 ? cells.values[(at - 1) * units + j] : Scalar(0);
        const Scalar cell = gate(1) * before + gate(0) * gate(2);
        cells.values[at * units + j] = cell;
        h.values[at * units + j] = gate(3) * tanh(cell);
      }
    }
  }
  return {h, cells, gates};
}

const Registered<Sweep> lstm_op{"Lstm", {.draw = drawn_lstm, .formula = lstm, .covers = {"LstmGrad"}, .tolerance = 2e-5}};

}  // namespace
}  // namespace cohort::test
