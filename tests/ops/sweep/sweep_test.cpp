// Every registered op at random shapes and attributes against its formula in double precision (the other files here): its
// results and gradients, dense and with padded rows, on one to three threads, with sizes that are known and unknown when
// the graph is built, of inputs that may be overwritten and of such that may not; results also with products of bfloat16.
//
//   COHORT_SWEEP_CASES=5000   so many cases of each op instead of 200
//   COHORT_SWEEP_SEED=7       of another seed than 1 ("random": a new one)
//   COHORT_SWEEP_CASE=12      this case alone; with the seed it repeats what a failure names
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <set>

#include "cohort/base/random.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "ops/op_cases.hpp"
#include "ops/run_node.hpp"
#include "ops/sweep/sweep.hpp"

namespace cohort::test {
namespace {

std::int64_t number_of(const char* variable, std::int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoll(text, nullptr, 10);
}

std::uint64_t base_seed() {
  static const std::uint64_t seed = [] {
    const char* text = std::getenv("COHORT_SWEEP_SEED");
    return text != nullptr && std::string(text) == "random" ? std::uint64_t{std::random_device()()}
                                                            : static_cast<std::uint64_t>(number_of("COHORT_SWEEP_SEED", 1));
  }();
  return seed;
}

std::uint64_t seed_of(const std::string& op, std::int64_t number) {
  return (std::uint64_t{random_bits(base_seed(), stream_of(op), 2 * number)} << 32) |
         random_bits(base_seed(), stream_of(op), 2 * number + 1);
}

/// A case of at most `most` operations, and the numbers that come next.
std::pair<SweepCase, Draw> drawn(const Sweep& sweep, std::uint64_t seed, double most) {
  for (int turn = 0; turn < 100'000; ++turn) {
    Draw draw(seed + static_cast<std::uint64_t>(turn), most);
    try {
      SweepCase one = sweep.draw(draw);
      return {std::move(one), draw};
    } catch (const DrawAgain&) {
    }
  }
  fail(Code::internal, "a sweep draws nothing that is small enough");
}

bool differentiable(const Array& x) { return x.dtype == DType::float32; }

std::string text_of(const SweepCase& one) {
  std::string text = one.attrs.text();
  for (const Array& x : one.in) text += " " + Signature{x.dtype, x.shape}.text();
  return text;
}

/// What the formula gives: the outputs, and for every wanted input the gradient of Σ weights · outputs.
struct Expected {
  std::vector<Shape> shapes;
  std::vector<std::vector<double>> outputs, gradients;
};

using Weights = std::vector<std::vector<double>>;      // by output; empty: it does not enter the sum

Expected expected_of(const Sweep& sweep, const SweepCase& one, const std::vector<bool>& wanted, const Weights& weights) {
  Scalar::clear();
  std::vector<Scalars> inputs;
  for (std::size_t i = 0; i < one.in.size(); ++i) {
    Scalars& input = inputs.emplace_back();
    for (const double x : one.in[i].values) input.push_back(wanted[i] ? Scalar::tracked(x) : Scalar(x));
  }
  Expected expected;
  std::vector<std::pair<Scalar, double>> sum;
  for (const Result& result : sweep.formula(one, inputs)) {
    const std::size_t k = expected.outputs.size();
    expected.shapes.push_back(result.shape);
    std::vector<double>& values = expected.outputs.emplace_back();
    for (std::size_t i = 0; i < result.values.size(); ++i) {
      values.push_back(result.values[i].value());
      if (k < weights.size() && !weights[k].empty()) sum.emplace_back(result.values[i], weights[k][i]);
    }
  }
  const std::vector<double> slopes = Scalar::gradients(sum);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::vector<double>& values = expected.gradients.emplace_back();
    for (const Scalar& x : inputs[i]) values.push_back(x.in(slopes));
  }
  return expected;
}

/// The op in a graph, the way that one draw wants it.
class SweptNode {
 public:
  SweptNode(const std::string& op, const Sweep& sweep, const SweepCase& one, Draw& draw)
      : sweep_(sweep), one_(one), draw_(draw) {
    node_name_ = "node";
    for (std::size_t i = 0; i < one.in.size(); ++i) add_input(i);
    node_ = graph_.add(op, values_, one.attrs, node_name_);
    const auto& outputs = graph_.node(node_.id).outputs;
    for (std::size_t k = 0; k < outputs.size(); ++k) fetches_.push_back(node_[static_cast<int>(k)]);
    wanted_.resize(one.in.size(), false);
    weights_.resize(outputs.size());
    const Op& definition = Registry<Op>::instance().get(op);
    if (!definition.products.empty() && draw.chance(0.15)) precision_ = draw.chance() ? Precision::bf16 : Precision::bf16_native;
    // In 16 bits only the results are compared: what a gradient rounds is what training asks of it, not its formula.
    wants_gradients_ = definition.gradient != nullptr && one.gradients && precision_ == Precision::fp32 && draw.chance(0.8);
    for (const int i : definition.products) rounded_.push_back(static_cast<std::size_t>(i));
  }

  /// Runs it and compares with the formula.
  void check() {
    choose_weights();
    expected_ = expected_of(sweep_, given(), wanted_, weights_);
    ASSERT_EQ(expected_.outputs.size(), weights_.size()) << "the formula gives another number of outputs";
    add_gradients();
    const int threads = static_cast<int>(draw_.between(1, 3));
    Session session(graph_, {.threads = threads, .precision = precision_});
    for (const auto& [value, tensor] : variables_) session.bind(value, tensor);
    bind_fetches(session);
    std::vector<std::vector<std::byte>> before;
    for (const Tensor& x : tensors_) before.push_back(bytes_of(x));
    const std::vector<Tensor> results = session.run(fetches_, feeds_, one_.options);
    for (std::size_t k = 0; k < results.size(); ++k) {
      const bool output = k < weights_.size();
      const std::size_t input = output ? 0 : wrt_[k - weights_.size()];
      const std::string what = output ? fmt::format("output {}", k) : fmt::format("gradient of input {}", input);
      ASSERT_EQ(results[k].shape(), output ? expected_.shapes[k] : one_.in[input].shape) << what;
      close(to_doubles(results[k]), output ? expected_.outputs[k] : expected_.gradients[input],
            fmt::format("{} on {} threads", what, threads));
    }
    for (std::size_t i = sweep_.writes_first ? 1 : 0; i < tensors_.size(); ++i) {
      ASSERT_EQ(bytes_of(tensors_[i]), before[i]) << "input " << i << " or its padding was written";
    }
    for (const auto& [fetch, tensor] : bound_) {
      ASSERT_TRUE(padding_untouched(tensor)) << "between the rows of " << fetches_[fetch].name();
    }
  }

  [[nodiscard]] const Graph& graph() const { return graph_; }

 private:
  void add_input(std::size_t i) {
    const Array& x = one_.in[i];
    Tensor tensor = from_doubles(x.dtype, x.shape, x.values);
    const std::string name = fmt::format("x{}", i);
    const bool writes = sweep_.writes_first && i == 0;
    if (x.dtype == DType::float32 && (writes || draw_.chance(0.3))) {
      if (x.shape.rank() > 1 && draw_.chance(0.9)) tensor = padded(tensor, draw_.between(1, 17));
      values_.push_back(graph_.variable(name, x.shape, "zeros"));
      variables_.emplace_back(values_.back(), tensor);
      sources_.push_back(values_.back());
    } else {
      Shape shape = x.shape;
      if (!one_.known && !writes && shape.rank() > 0 && draw_.chance(0.3)) shape.set(0, Shape::kUnknown);
      values_.push_back(graph_.placeholder(name, x.dtype, shape));
      feeds_.emplace_back(values_.back(), tensor);
      sources_.push_back(values_.back());
      // Something of the graph's own, whose memory an op may take for its result.
      if (x.dtype == DType::float32 && draw_.chance(0.3)) values_.back() = values_.back() * 1.f;
    }
    tensors_.push_back(tensor);
  }

  /// What the formula gets: the op's inputs, those that enter products in 16 bits if the session computes so.
  [[nodiscard]] SweepCase given() const {
    SweepCase given = one_;
    for (const std::size_t i : rounded_) {
      if (precision_ == Precision::fp32 || i >= given.in.size()) continue;
      for (double& x : given.in[i].values) x = static_cast<double>(static_cast<float>(bfloat16(static_cast<float>(x))));
    }
    return given;
  }

  void choose_weights() {
    if (!wants_gradients_) return;
    for (std::size_t i = 0; i < wanted_.size(); ++i) wanted_[i] = differentiable(one_.in[i]) && draw_.chance(0.8);
    const std::vector<bool> nothing(wanted_.size(), false);
    const Expected plain = expected_of(sweep_, one_, nothing, {});
    for (std::size_t k = 0; k < weights_.size(); ++k) {
      if (fetches_[k].dtype() != DType::float32 || !draw_.chance(0.8)) continue;
      for (std::size_t i = 0; i < plain.outputs[k].size(); ++i) weights_[k].push_back(draw_.uniform(-1, 1));
      in_sum_.push_back(k);
    }
  }

  void add_gradients() {
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      if (wanted_[i]) wrt_.push_back(i);
    }
    if (in_sum_.empty() || wrt_.empty()) {
      wrt_.clear();
      return;
    }
    Value loss;
    for (const std::size_t k : in_sum_) {
      const Value y = fetches_[k];
      const Tensor weights = from_doubles(DType::float32, expected_.shapes[k], weights_[k]);
      Value w;
      if (y.shape().known() && draw_.chance()) {
        w = graph_.constant(weights);
      } else {
        w = graph_.placeholder(fmt::format("w{}", k), DType::float32, y.shape());
        feeds_.emplace_back(w, weights);
      }
      const Value part = sum(y * w);
      loss = loss ? loss + part : part;
    }
    std::vector<Value> wrt;
    for (const std::size_t i : wrt_) wrt.push_back(sources_[i]);
    for (const Value& d : gradients(loss, wrt)) fetches_.push_back(d);
  }

  /// Some results are computed straight into memory with padded rows.
  void bind_fetches(Session& session) {
    std::set<std::pair<int, int>> done;
    for (std::size_t k = 0; k < fetches_.size(); ++k) {
      const Shape& shape = k < weights_.size() ? expected_.shapes[k] : one_.in[wrt_[k - weights_.size()]].shape;
      const bool writes = sweep_.writes_first && k == 0;
      const bool free =
          fetches_[k].dtype() == DType::float32 && !writes && shape.rank() > 1 && shape.elements() > 0 && draw_.chance(0.3);
      if (!free || !done.emplace(fetches_[k].node, fetches_[k].output).second) continue;
      bound_.emplace_back(k, padded(Tensor::zeros(shape), draw_.between(1, 17)));
      session.bind(fetches_[k], bound_.back().second);
    }
  }

  static std::vector<std::byte> bytes_of(const Tensor& x) {
    const auto* from = static_cast<const std::byte*>(x.raw());
    return x.bytes() == 0 ? std::vector<std::byte>{} : std::vector<std::byte>(from, from + x.bytes());
  }

  void close(const std::vector<double>& have, const std::vector<double>& want, const std::string& what) const {
    ASSERT_EQ(have.size(), want.size()) << what;
    double scale = 1;
    for (const double x : want) scale = std::isfinite(x) ? std::max(scale, std::fabs(x)) : scale;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const double distance = std::fabs(have[i] - want[i]);
      const bool right =
          std::isnan(want[i]) ? std::isnan(have[i]) : have[i] == want[i] || distance <= sweep_.tolerance * scale;
      ASSERT_TRUE(right) << what << ", element " << i << " of " << want.size() << ": " << have[i] << ", the formula gives "
                         << want[i];
    }
  }

  const Sweep& sweep_;
  const SweepCase& one_;
  Draw& draw_;
  std::string node_name_;
  Graph graph_;
  Node node_;
  Precision precision_ = Precision::fp32;
  std::vector<std::size_t> rounded_;                    // inputs that enter products
  bool wants_gradients_ = false;
  std::vector<Value> values_, sources_, fetches_;       // the op's inputs; what they were made of; outputs, then gradients
  std::vector<Tensor> tensors_;                         // of the sources
  std::vector<std::pair<Value, Tensor>> variables_;
  Feeds feeds_;
  std::vector<bool> wanted_;
  std::vector<std::size_t> wrt_, in_sum_;
  Weights weights_;
  Expected expected_;
  std::vector<std::pair<std::size_t, Tensor>> bound_;
};

#ifdef __SANITIZE_THREAD__
constexpr double kMostOperations = 2e5;      // it watches each access of the scalar formulas, which have one thread, as well
#else
constexpr double kMostOperations = 2e6;
#endif
constexpr double kFewOperations = 1e4;
constexpr std::int64_t kCases = COHORT_BRIEF ? 30 : 200;

std::vector<std::string> swept_ops() { return Registry<Sweep>::instance().names(); }

class OpSweep : public testing::TestWithParam<std::string> {};

TEST_P(OpSweep, EqualsItsFormula) {
  const std::string& op = GetParam();
  const Sweep& sweep = Registry<Sweep>::instance().get(op);
  const std::int64_t only = number_of("COHORT_SWEEP_CASE", -1), cases = number_of("COHORT_SWEEP_CASES", kCases);
  std::set<std::string> met;
  std::int64_t not_here = 0;
  for (std::int64_t i = only < 0 ? 0 : only; i < (only < 0 ? cases : only + 1); ++i) {
    auto [one, draw] = drawn(sweep, seed_of(op, i), i % 20 == 19 ? kMostOperations : kFewOperations);
    SCOPED_TRACE(fmt::format("COHORT_SWEEP_SEED={} COHORT_SWEEP_CASE={}: {} {}", base_seed(), i, op, text_of(one)));
    try {
      SweptNode node(op, sweep, one, draw);
      node.check();
      for (int id = 0; id < node.graph().size(); ++id) met.insert(node.graph().node(id).op);
    } catch (const Error& error) {
      const bool elsewhere = std::string(error.what()).find("needs a processor that multiplies bfloat16") != std::string::npos;
      if (!elsewhere) ADD_FAILURE() << error.what();
      not_here += elsewhere;
    }
    if (HasFailure()) return;
  }
  if (not_here > 0) {
    std::cout << fmt::format("{}: {} of {} cases need a processor that multiplies bfloat16, which this one does not\n", op, not_here, cases);
  }
  for (const std::string& covered : sweep.covers) {
    EXPECT_TRUE(only >= 0 || met.contains(covered))
        << op << " says that it covers " << covered << ", which no gradient uses";
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, OpSweep, testing::ValuesIn(swept_ops()), [](const auto& of) { return of.param; });

/// The references' gradients are those of their own values: central differences in double precision.
class SweepFormula : public testing::TestWithParam<std::string> {};

TEST_P(SweepFormula, HasTheGradientOfItsFiniteDifferences) {
  const std::string& op = GetParam();
  if (Registry<Op>::instance().get(op).gradient == nullptr) return;
  const Sweep& sweep = Registry<Sweep>::instance().get(op);
  constexpr double kStep = 0x1p-17;
  for (std::int64_t number = 0; number < 8; ++number) {
    auto [one, draw] = drawn(sweep, seed_of(op, number) + 1, 200);
    if (!one.gradients) continue;
    SCOPED_TRACE(fmt::format("COHORT_SWEEP_SEED={} number {}: {} {}", base_seed(), number, op, text_of(one)));
    std::vector<bool> wanted;
    for (const Array& x : one.in) wanted.push_back(differentiable(x));
    Weights weights;
    for (const std::vector<double>& y : expected_of(sweep, one, std::vector<bool>(wanted.size(), false), {}).outputs) {
      std::vector<double>& of_output = weights.emplace_back();
      for (std::size_t i = 0; i < y.size(); ++i) of_output.push_back(draw.uniform(-1, 1));
    }
    const Expected expected = expected_of(sweep, one, wanted, weights);
    const auto sum = [&] {
      double total = 0;
      const Expected at = expected_of(sweep, one, std::vector<bool>(wanted.size(), false), {});
      for (std::size_t k = 0; k < weights.size(); ++k) {
        for (std::size_t i = 0; i < weights[k].size(); ++i) total += weights[k][i] * at.outputs[k][i];
      }
      return total;
    };
    const double here = sum();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      for (std::size_t j = 0; wanted[i] && j < one.in[i].values.size(); ++j) {
        double& x = one.in[i].values[j];
        const double before = x;
        x = before + kStep;
        const double above = sum();
        x = before - kStep;
        const double below = sum();
        x = before;
        const double right = (above - here) / kStep, left = (here - below) / kStep, slope = (above - below) / (2 * kStep);
        const double scale = std::max({1.0, std::fabs(right), std::fabs(left)});
        if (!std::isfinite(here) || std::fabs(right - left) > 1e-2 * scale) continue;      // a kink, a step, or no number
        ASSERT_NEAR(expected.gradients[i][j], slope, 1e-4 * scale) << "input " << i << ", element " << j;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, SweepFormula, testing::ValuesIn(swept_ops()), [](const auto& of) { return of.param; });

/// What every sweep's graph is made of: fed, kept in the session, or part of the graph.
const std::set<std::string> kOfEverySweep{"Placeholder", "Variable", "Constant"};

TEST(OpRegistry, EveryOpIsSwept) {
  std::set<std::string> swept = kOfEverySweep;
  for (const auto& [op, entry] : Registry<Sweep>::instance().entries()) {
    EXPECT_NE(Registry<Op>::instance().find(op), nullptr) << op << " is swept and not registered";
    swept.insert(op);
    swept.insert(entry.value.covers.begin(), entry.value.covers.end());
  }
  for (const std::string& op : Registry<Op>::instance().names()) {
    EXPECT_TRUE(swept.contains(op)) << op << " has no sweep: see tests/ops/sweep/";
  }
}

}  // namespace
}  // namespace cohort::test
