// NaN, infinities, empty tensors, ties, long sums, large shapes and threads. Expected values are those of NumPy and PyTorch.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "cohort/base/random.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/tensor/vector_math.hpp"
#include "ops/run_op.hpp"

namespace cohort::test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
using Numbers = std::vector<std::int64_t>;

std::string text_of(const std::vector<double>& values) {
  std::string text;
  for (const double x : values) text += (text.empty() ? "" : " ") + (std::isnan(x) ? "nan" : fmt::format("{:.6g}", x));
  return text;
}
std::string text_of(const std::string& op, const std::vector<Tensor>& in, const Attrs& attrs = {}) {
  return text_of(values_of(op, in, attrs));
}
Tensor row(const std::vector<float>& values) { return floats({static_cast<std::int64_t>(values.size())}, values); }

TEST(NotANumber, PassesThroughArithmeticAndActivations) {
  const Tensor x = row({kNaN, kInf, -kInf, 0, -0.f});
  EXPECT_EQ(text_of("Relu", {x}), "nan inf 0 0 0");
  EXPECT_EQ(text_of("Exp", {x}), "nan inf 0 1 1");
  EXPECT_EQ(text_of("Log", {row({kNaN, kInf, -1, 0})}), "nan inf nan -inf");
  EXPECT_EQ(text_of("Sqrt", {row({kNaN, kInf, -1, 0})}), "nan inf nan 0");
  EXPECT_EQ(text_of("Tanh", {x}), "nan 1 -1 0 0");
  EXPECT_EQ(text_of("Sigmoid", {x}), "nan 1 0 0.5 0.5");
  EXPECT_EQ(text_of("Softplus", {x}), "nan inf 0 0.693147 0.693147");
  EXPECT_EQ(text_of("Gelu", {row({kNaN, kInf, 0})}), "nan inf 0");
  EXPECT_EQ(text_of("Sign", {x}), "nan 1 -1 0 -0");
  EXPECT_EQ(text_of("Div", {row({1, -1, 0}), row({0, 0, 0})}), "inf -inf nan");
  EXPECT_EQ(text_of("ReluGrad", {row({1, 1, 1}), row({kNaN, 0, 2})}), "1 0 1");
}

TEST(NotANumber, WinsInMaximumAndMinimumFromEitherSide) {
  const Tensor a = row({kNaN, 1, kNaN, 2, -kInf}), b = row({1, kNaN, kNaN, 3, kInf});
  EXPECT_EQ(text_of("Maximum", {a, b}), "nan nan nan 3 inf");
  EXPECT_EQ(text_of("Minimum", {a, b}), "nan nan nan 2 -inf");
  EXPECT_EQ(text_of("Maximum", {row({kNaN, 1}), floats({}, {0.5f})}), "nan 1");
  EXPECT_EQ(text_of("Maximum", {row({0, 1}), floats({}, {kNaN})}), "nan nan");
}

TEST(NotANumber, ComparesUnequalToAll) {
  const Tensor a = row({kNaN, 1, kNaN}), b = row({1, kNaN, kNaN});
  EXPECT_EQ(text_of("Equal", {a, b}), "0 0 0");
  EXPECT_EQ(text_of("NotEqual", {a, b}), "1 1 1");
  EXPECT_EQ(text_of("Less", {a, b}), "0 0 0");
  EXPECT_EQ(text_of("GreaterEqual", {a, b}), "0 0 0");
}

TEST(NotANumber, WinsInReductionsWhereverItStands) {
  for (const std::int64_t n : {1, 5, 16, 33, 100}) {
    for (std::int64_t at = 0; at < n; ++at) {
      std::vector<float> numbers(static_cast<std::size_t>(n), 1.f);
      numbers[static_cast<std::size_t>(at)] = kNaN;
      EXPECT_EQ(text_of("ReduceMax", {row(numbers)}, {{"axes", Numbers{}}}), "nan");
      EXPECT_EQ(text_of("ReduceMax", {floats({n, 1, 1}, numbers)}, {{"axes", Numbers{0}}}), "nan");
      EXPECT_EQ(text_of("ReduceSum", {row(numbers)}, {{"axes", Numbers{}}}), "nan");
      EXPECT_EQ(values_of("ArgMax", {row(numbers)}, {{"axis", 0}})[0], static_cast<double>(at));
    }
  }
  EXPECT_EQ(text_of("ArgMax", {row({3, kNaN, 5, kNaN})}, {{"axis", 0}}), "1");
}

TEST(NotANumber, Selected) {
  EXPECT_EQ(text_of("Select", {Tensor::of<bool>({2}, {true, false}), row({1, kNaN}), row({kNaN, 2})}), "1 2");
  EXPECT_EQ(text_of("Cast", {row({kNaN, kInf, -kInf})}, {{"to", DType::int32}}), "0 2.14748e+09 -2.14748e+09");
  EXPECT_EQ(text_of("Cast", {row({kNaN, 0, -0.f})}, {{"to", DType::boolean}}), "1 0 0");
  EXPECT_EQ(text_of("Cast", {row({kNaN, kInf, 70000})}, {{"to", DType::float16}}), "nan inf inf");
}

TEST(Ties, FirstMaximum) {
  EXPECT_EQ(text_of("ArgMax", {floats({2, 3}, {1, 5, 5, 2, 2, 2})}, {{"axis", -1}}), "1 0");
  EXPECT_EQ(text_of("ArgMax", {floats({3, 2}, {1, 5, 4, 5, 4, 1})}, {{"axis", 0}}), "1 0");
  EXPECT_EQ(text_of("ArgMax", {row({-kInf, -kInf})}, {{"axis", 0}}), "0");
}

TEST(Ties, GradientIsSharedOut) {
  Graph graph;
  const Value x = graph.placeholder("x", DType::float32, {2, 3});
  const Value y = graph.placeholder("y", DType::float32, {2, 3});
  const Value loss = sum(max(x, {1}) * graph.constant(floats({2}, {6, 10}))) + sum(maximum(x, y)) + sum(abs(x));
  const std::vector<Value> dx = gradients(loss, std::vector<Value>{x, y});
  Session session(graph);
  const auto results = session.run(dx, {{x, floats({2, 3}, {4, 4, 4, -1, 2, 2})}, {y, floats({2, 3}, {4, 5, 3, -1, 2, 3})}});
  EXPECT_EQ(text_of(to_doubles(results[0])), "3.5 3 4 -0.5 6.5 6");
  EXPECT_EQ(text_of(to_doubles(results[1])), "0.5 1 0 0.5 0.5 1");
}

TEST(Empty, ReductionsAreTheirNeutralElement) {
  const Tensor x = Tensor::zeros({2, 0, 3});
  EXPECT_EQ(text_of("ReduceSum", {x}, {{"axes", Numbers{}}}), "0");
  EXPECT_EQ(text_of("ReduceMean", {x}, {{"axes", Numbers{}}}), "nan");
  EXPECT_EQ(text_of("ReduceSum", {x}, {{"axes", Numbers{1}}}), "0 0 0 0 0 0");
  EXPECT_EQ(text_of("ReduceMean", {x}, {{"axes", Numbers{0, 1}}}), "nan nan nan");
  EXPECT_EQ(text_of("ReduceMax", {x}, {{"axes", Numbers{0}}}), "");
}

TEST(Empty, BatchGivesZeroGradients) {
  Graph graph;
  const Value x = graph.placeholder("x", DType::float32, {Shape::kUnknown, 3});
  const Value w = graph.placeholder("w", DType::float32, {3});
  const std::vector<Value> dw = gradients(sum(tanh(x * w)), std::vector<Value>{w});
  Session session(graph);
  EXPECT_EQ(text_of(to_doubles(session.run(dw[0], {{x, Tensor::zeros({0, 3})}, {w, row({1, 2, 3})}}))), "0 0 0");
}

TEST(Softmax, NeitherOverflowsNorLosesSmallOnes) {
  EXPECT_EQ(text_of("Softmax", {row({1000, 1000, -1000})}), "0.5 0.5 0");
  EXPECT_EQ(text_of("LogSoftmax", {row({1000, 1000, -1000})}), "-0.693147 -0.693147 -2000.69");
  EXPECT_EQ(text_of("Softmax", {row({-kInf, 0})}), "0 1");
  EXPECT_EQ(text_of("Softmax", {row({-kInf, -kInf})}), "nan nan");
  EXPECT_EQ(text_of("Softmax", {row({kNaN, 0})}), "nan nan");
  EXPECT_EQ(text_of("SoftmaxCrossEntropy", {floats({2, 2}, {1e4f, -1e4f, 1e4f, -1e4f}), ints({2}, {0, 1})}), "0 20000");
  EXPECT_EQ(text_of("SoftmaxCrossEntropy", {floats({1, 3}, {0, -kInf, 0}), ints({1}, {0})}), "0.693147");
}

TEST(Integers, WrapAround) {
  const Tensor most = ints({1}, {std::numeric_limits<std::int32_t>::max()});
  EXPECT_EQ(values_of("Add", {most, ints({1}, {1})})[0], -2147483648.0);
  EXPECT_EQ(values_of("Mul", {most, most})[0], 1.0);
}

TEST(LongSums, KeepEveryDigit) {
  // 2^24 + 3 · 1 in float32 one after another would stay at 2^24; 10^7 times 0.1 would be 1087937.
  std::vector<float> numbers(1'000'003, 0.1f);
  const double exact = 1'000'003 * static_cast<double>(0.1f);
  EXPECT_NEAR(values_of("ReduceSum", {row(numbers)}, {{"axes", Numbers{}}})[0], exact, exact * 6e-8);
  EXPECT_EQ(values_of("ReduceSum", {row({16777216.f, 1, 1, 1})}, {{"axes", Numbers{}}})[0], 16777220.0);
  std::vector<float> column(3 * 300'001, 0.1f);
  for (const double y : values_of("ReduceMean", {floats({300'001, 3}, column)}, {{"axes", Numbers{0}}})) {
    EXPECT_FLOAT_EQ(static_cast<float>(y), 0.1f);
  }
}

// Sizes at which work is cut into tiles, pieces and threads, against a plain loop; the same bits for any number of threads.
using Reduction = std::pair<Shape, Numbers>;
class LargeReductions : public testing::TestWithParam<Reduction> {};

std::vector<float> noise(std::int64_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 2 * random_uniform(1, 2, i) - 1;
  return values;
}

TEST_P(LargeReductions, MatchAPlainLoop) {
  const auto& [shape, axes] = GetParam();
  const std::vector<float> x = noise(shape.elements());
  Shape kept = shape;
  for (const std::int64_t axis : axes) kept.set(axis, 1);
  std::vector<double> sums(static_cast<std::size_t>(kept.elements()), 0), largest(sums.size(), -2);
  for (std::size_t i = 0; i < x.size(); ++i) {
    std::size_t rest = i, to = 0, step = 1;
    for (auto d = static_cast<std::int64_t>(shape.rank()) - 1; d >= 0; --d) {
      const auto size = static_cast<std::size_t>(shape[d]);
      if (kept[d] != 1) to += rest % size * step;
      step *= static_cast<std::size_t>(kept[d]);
      rest /= size;
    }
    sums[to] += static_cast<double>(x[i]);
    largest[to] = std::max(largest[to], static_cast<double>(x[i]));
  }
  const Attrs attrs{{"axes", axes}, {"keep_dims", true}};
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    const Tensor y = run_op("ReduceSum", {floats(shape, x)}, attrs, threads)[0];
    ASSERT_EQ(y.shape(), kept);
    const std::vector<float> have = y.to_vector<float>();
    for (std::size_t i = 0; i < have.size(); ++i) ASSERT_NEAR(have[i], sums[i], 1e-6 * std::fabs(sums[i]) + 1e-9);
    if (first.empty()) first = have;
    ASSERT_EQ(std::memcmp(first.data(), have.data(), have.size() * sizeof(float)), 0) << threads << " threads";
    ASSERT_EQ(to_doubles(run_op("ReduceMax", {floats(shape, x)}, attrs, threads)[0]), largest);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LargeReductions, testing::Values(
    Reduction{{200'003}, {0}}, Reduction{{3, 70'001}, {1}}, Reduction{{40'009, 5}, {0}}, Reduction{{257, 1031}, {0}},
    Reduction{{257, 1031}, {1}}, Reduction{{9, 251, 67}, {1}}, Reduction{{9, 251, 67}, {0, 2}},
    Reduction{{5, 31, 7, 129}, {1, 3}}, Reduction{{1031, 257}, {0, 1}}));

TEST(LargeShapes, BroadcastAndTransposeOnThreads) {
  const Shape shape{61, 67, 71};
  const std::vector<float> x = noise(shape.elements()), b = noise(67);
  for (const int threads : {1, 3}) {
    const auto sum = run_op("Add", {floats(shape, x), floats({67, 1}, b)}, {}, threads)[0].to_vector<float>();
    const Attrs turn{{"permutation", Numbers{2, 0, 1}}}, cut{{"begin", Numbers{1, 2, 3}}, {"size", Numbers{60, 60, 60}}};
    const auto turned = run_op("Transpose", {floats(shape, x)}, turn, threads)[0].to_vector<float>();
    const auto part = run_op("Slice", {floats(shape, x)}, cut, threads)[0].to_vector<float>();
    for (std::size_t i = 0, at = 0, taken = 0; i < 61; ++i) {
      for (std::size_t j = 0; j < 67; ++j) {
        for (std::size_t k = 0; k < 71; ++k, ++at) {
          ASSERT_EQ(sum[at], x[at] + b[j]);
          ASSERT_EQ(turned[(k * 61 + i) * 67 + j], x[at]);
          const bool inside = i >= 1 && j >= 2 && j < 62 && k >= 3 && k < 63;
          ASSERT_TRUE(!inside || part[taken++] == x[at]);
        }
      }
    }
  }
}

TEST(LargeShapes, ShortRowsRepeat) {
  const std::vector<float> x = noise(20'011 * 6), b = noise(6);
  for (const int threads : {1, 3}) {
    const auto right = run_op("Sub", {floats({20'011, 6}, x), row(b)}, {}, threads)[0].to_vector<float>();
    const auto left = run_op("Less", {floats({1, 6}, b), floats({20'011, 6}, x)}, {}, threads)[0];
    const auto less = to_doubles(left);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(right[i], x[i] - b[i % 6]);
      ASSERT_EQ(less[i], b[i % 6] < x[i] ? 1.0 : 0.0);
    }
  }
}

TEST(LargeShapes, RowsOfSoftmaxOnThreads) {
  const Tensor x = floats({257, 301}, noise(257 * 301));
  const auto one = run_op("Softmax", {x}, {}, 1)[0].to_vector<float>();
  const auto three = run_op("Softmax", {x}, {}, 3)[0].to_vector<float>();
  EXPECT_EQ(one, three);
  EXPECT_NEAR(values_of("ReduceSum", {run_op("Softmax", {x})[0]}, {{"axes", Numbers{}}})[0], 257, 1e-3);
}

TEST(Accuracy, ARowWithNaNIsWrongWhateverItsLabel) {
  Graph graph;
  const Value logits = graph.placeholder("logits", DType::float32, {Shape::kUnknown, 3});
  const Value labels = graph.placeholder("labels", DType::int32, {Shape::kUnknown});
  const Value share = accuracy(logits, labels);
  Session session(graph);
  const auto of = [&](const std::vector<float>& x, const std::vector<std::int32_t>& y) {
    const auto n = static_cast<std::int64_t>(y.size());
    return to_doubles(session.run(share, {{logits, floats({n, 3}, x)}, {labels, ints({n}, y)}}))[0];
  };
  EXPECT_EQ(of({1, 2, 3, 5, 5, 4}, {2, 0}), 1);
  for (const int label : {0, 1, 2}) {
    EXPECT_EQ(of({kNaN, kNaN, kNaN}, {label}), 0);
    EXPECT_EQ(of({1, kNaN, 3}, {label}), 0);
    EXPECT_EQ(of({kInf, kNaN, -kInf, 0, 0, 7}, {label, 2}), 0.5);
  }
}

/// Inputs that nobody reads later may be overwritten, but never one that is read again within the same op.
TEST(InPlace, SmallBroadcastInputsAreNotOverwritten) {
  Graph graph;
  const Value x = graph.placeholder("x", DType::float32, {4, 3}), b = graph.placeholder("b", DType::float32, {3});
  const Value y = (b * 2.f) + (x * 1.f), z = select(less(x, x + 1.f), (b * 3.f), (x * 5.f));
  Session session(graph);
  const Tensor tens = floats({4, 3}, std::vector<float>(12, 10));
  const auto results = session.run(std::vector<Value>{y, z}, {{x, tens}, {b, row({1, 2, 3})}});
  EXPECT_EQ(text_of(to_doubles(results[0])), "12 14 16 12 14 16 12 14 16 12 14 16");
  EXPECT_EQ(text_of(to_doubles(results[1])), "3 6 9 3 6 9 3 6 9 3 6 9");
}

TEST(InPlace, MemoryOfWhichOnlyTheShapeIsNeededIsFree) {
  Graph graph;
  const Value x = graph.placeholder("x", DType::float32, {Shape::kUnknown, 1000});
  const Value u = x * 2.f, first = sum(u), w = exp(x), second = sum(Value(graph.add("SumLike", {w, u})));
  Session session(graph);
  const std::vector<Value> fetches{first, second};
  const Step& step = session.prepare(fetches, {{x, {100, 1000}}});
  EXPECT_LT(step.arena_bytes(), 600'000u);        // u and w, 400 kB each, take turns
}

TEST(VectorMath, IsAccurateToThreeUnitsInTheLastPlace) {
  const auto worst = [](double low, double high, auto approximate, auto exact) {
    double units = 0;
    for (int i = 0; i < 200'000; ++i) {
      const auto x = static_cast<float>(low + (high - low) * i / 200'000);
      const double want = exact(static_cast<double>(x));
      const auto magnitude = static_cast<float>(std::fabs(want));
      const double unit = static_cast<double>(std::nextafter(magnitude, kInf)) - static_cast<double>(magnitude);
      units = std::max(units, std::fabs(static_cast<double>(approximate(x)) - want) / unit);
    }
    return units;
  };
  EXPECT_LT(worst(-87, 88.7, [](float x) { return vec::exp(x); }, [](double x) { return std::exp(x); }), 2);
  EXPECT_LT(worst(-10, 10, [](float x) { return vec::tanh(x); }, [](double x) { return std::tanh(x); }), 2);
  EXPECT_LT(worst(-5, 5, [](float x) { return vec::erf(x); }, [](double x) { return std::erf(x); }), 2);
  EXPECT_LT(worst(-80, 80, [](float x) { return vec::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }), 3);
  EXPECT_EQ(vec::exp(-100.f), std::exp(-100.f));      // below the normal numbers
  EXPECT_EQ(vec::exp(-200.f), 0.f);
  EXPECT_EQ(vec::exp(100.f), kInf);
}

}  // namespace
}  // namespace cohort::test
