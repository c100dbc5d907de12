// What is refused, when, and that the message names the op, the node, the input and the shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cohort/graph/functions.hpp"
#include "ops/run_op.hpp"

namespace cohort::test {
namespace {

using testing::HasSubstr;
using Numbers = std::vector<std::int64_t>;

constexpr std::int64_t kUnknown = Shape::kUnknown;

class OpErrors : public testing::Test {
 protected:
  Value input(const Shape& shape, DType dtype = DType::float32) { return graph.placeholder("x", dtype, shape); }
  std::string refused(const std::string& op, const std::vector<Value>& in, const Attrs& attrs = {}) {
    return error_of([&] { graph.add(op, in, attrs, "here"); });
  }

  Graph graph;
};

TEST_F(OpErrors, NameOpNodeInputAndBothShapes) {
  auto scope = graph.name_scope("block");
  const std::string text = refused("Add", {input({2, 3}), input({4})});
  EXPECT_THAT(text, HasSubstr("Add 'block/here'"));
  EXPECT_THAT(text, HasSubstr("inputs 0 and 1"));
  EXPECT_THAT(text, HasSubstr("float32[2, 3], float32[4]"));
}

TEST_F(OpErrors, WrongNumberOfInputs) {
  EXPECT_THAT(refused("Add", {input({2})}), HasSubstr("takes 2 inputs, got 1"));
  EXPECT_THAT(refused("Exp", {input({2}), input({2})}), HasSubstr("takes 1 inputs, got 2"));
  EXPECT_THAT(refused("Select", {input({2}, DType::boolean)}), HasSubstr("takes 3 inputs, got 1"));
  EXPECT_THAT(refused("Concat", {}, {{"axis", 0}}), HasSubstr("input 0 is missing"));
}

TEST_F(OpErrors, WrongElementTypes) {
  const Value f = input({2}), i = input({2}, DType::int32), b = input({2}, DType::boolean), h = input({2}, DType::float16);
  EXPECT_THAT(refused("Add", {f, i}), HasSubstr("same element type"));
  EXPECT_THAT(refused("Add", {b, b}), HasSubstr("takes float32, int32 or int64"));
  EXPECT_THAT(refused("Div", {i, i}), HasSubstr("input 0 must be float32 (inputs: int32[2], int32[2])"));
  EXPECT_THAT(refused("Tanh", {i}), HasSubstr("input 0 must be float32"));
  EXPECT_THAT(refused("Less", {h, h}), HasSubstr("cast the inputs"));
  EXPECT_THAT(refused("Select", {f, f, f}), HasSubstr("input 0 must be bool"));
  EXPECT_THAT(refused("Select", {b, f, i}), HasSubstr("inputs 1 and 2 must have the same element type"));
  EXPECT_THAT(refused("ReduceSum", {i}, {{"axes", Numbers{}}}), HasSubstr("input 0 must be float32"));
  EXPECT_THAT(refused("SoftmaxCrossEntropy", {input({2, 3}), f}), HasSubstr("input 1 must be int32"));
  EXPECT_THAT(refused("Gather", {f, f}), HasSubstr("input 1 must be int32"));
  EXPECT_THAT(refused("Concat", {f, i}, {{"axis", 0}}), HasSubstr("inputs 0 and 1 must have the same element type"));
}

TEST_F(OpErrors, AxesOutsideTheInput) {
  const Value x = input({2, 3});
  EXPECT_THAT(refused("ReduceSum", {x}, {{"axes", Numbers{2}}}),
              HasSubstr("axis 2 is outside input 0 (inputs: float32[2, 3])"));
  EXPECT_THAT(refused("ReduceMean", {x}, {{"axes", Numbers{-3}}}), HasSubstr("axis -3 is outside"));
  EXPECT_THAT(refused("ReduceMax", {x}, {{"axes", Numbers{1, -1}}}), HasSubstr("axis -1 is named twice"));
  EXPECT_THAT(refused("ArgMax", {x}, {{"axis", 2}}), HasSubstr("axis 2 is outside"));
  EXPECT_THAT(refused("Concat", {x, x}, {{"axis", 2}}), HasSubstr("axis 2 is outside"));
  EXPECT_THAT(refused("Split", {x}, {{"axis", 5}, {"parts", 1}}), HasSubstr("axis 5 is outside"));
}

TEST_F(OpErrors, MaximumOfNothing) {
  EXPECT_THAT(refused("ReduceMax", {input({0, 3})}, {{"axes", Numbers{0}}}), HasSubstr("no maximum of no elements"));
  EXPECT_THAT(refused("ArgMax", {input({3, 0})}, {{"axis", 1}}), HasSubstr("no maximum of no elements"));
}

TEST_F(OpErrors, Reshape) {
  const auto to = [&](const Shape& from, Numbers shape) {
    return refused("Reshape", {input(from)}, {{"shape", std::move(shape)}});
  };
  EXPECT_THAT(to({2, 3}, {4, 2}), HasSubstr("[4, 2] (inputs: float32[2, 3])"));
  EXPECT_THAT(to({2, 3}, {-1, 4}), HasSubstr("cannot be divided"));
  EXPECT_THAT(to({2, 3}, {-1, -1}), HasSubstr("more than one dimension"));
  EXPECT_THAT(to({2, 3}, {-2, 3}), HasSubstr("dimension -2"));
  EXPECT_THAT(to({0, 3}, {-1, 0}), HasSubstr("could be anything"));
  EXPECT_THAT(refused("Flatten", {input({})}), HasSubstr("at least one dimension"));
}

TEST_F(OpErrors, SlicesAndPads) {
  const Value x = input({4, 5});
  const auto slice = [&](Numbers begin, Numbers size) {
    return refused("Slice", {x}, {{"begin", std::move(begin)}, {"size", std::move(size)}});
  };
  EXPECT_THAT(slice({0}, {1}), HasSubstr("one number per dimension"));
  EXPECT_THAT(slice({-1, 0}, {1, 1}), HasSubstr("begin [-1, 0] has a negative number"));
  EXPECT_THAT(slice({0, 0}, {-2, 1}), HasSubstr("size [-2, 1] has a negative number"));
  EXPECT_THAT(slice({3, 0}, {2, 5}),
              HasSubstr("the part from [3, 0] of size [2, 5] is not inside input 0 (inputs: float32[4, 5])"));
  EXPECT_THAT(slice({5, 0}, {-1, -1}), HasSubstr("is not inside"));
  EXPECT_THAT(refused("Pad", {x}, {{"before", Numbers{0, -1}}, {"after", Numbers{0, 0}}}), HasSubstr("negative"));
  EXPECT_THAT(refused("Split", {x}, {{"axis", 1}, {"parts", 2}}),
              HasSubstr("dimension 1 cannot be split into 2 equal parts"));
  EXPECT_THAT(refused("Split", {x}, {{"axis", 1}, {"parts", 0}}), HasSubstr("cannot be split into 0 parts"));
  EXPECT_THAT(refused("Concat", {x, input({4, 6})}, {{"axis", 0}}), HasSubstr("inputs 0 and 1 differ in dimension 1"));
  EXPECT_THAT(refused("Concat", {x, input({4})}, {{"axis", 0}}), HasSubstr("input 1 must have 2 dimensions"));
  EXPECT_THAT(refused("Transpose", {x}, {{"permutation", Numbers{0, 0}}}), HasSubstr("does not name each dimension"));
  EXPECT_THAT(refused("Transpose", {x}, {{"permutation", Numbers{0}}}), HasSubstr("does not name each dimension"));
}

TEST_F(OpErrors, LossesAndTables) {
  EXPECT_THAT(refused("SoftmaxCrossEntropy", {input({4, 3}), input({3}, DType::int32)}),
              HasSubstr("the labels must have the shape"));
  EXPECT_THAT(refused("SoftmaxCrossEntropy", {input({4, 3}), input({4}, DType::int32)}, {{"label_smoothing", 1.0}}),
              HasSubstr("not in [0, 1)"));
  EXPECT_THAT(refused("Softmax", {input({})}), HasSubstr("at least one dimension"));
  EXPECT_THAT(refused("Gather", {input({}), input({2}, DType::int32)}), HasSubstr("must have rows"));
  EXPECT_THAT(refused("OneHot", {input({2}, DType::int32)}, {{"depth", 0}}), HasSubstr("depth 0 must be positive"));
}

TEST_F(OpErrors, MissingAttributeIsNamed) { EXPECT_THAT(refused("Slice", {input({2})}), HasSubstr("is missing")); }

TEST(OpRunErrors, BadLabelNamesLabelAndRow) {
  for (const std::int32_t bad : {-1, 3, 1000000}) {
    const Tensor logits = Tensor::zeros({4, 3}), labels = ints({4}, {0, 2, bad, -7});
    const auto text = error_of([&] { run_op("SoftmaxCrossEntropy", {logits, labels}); }, Code::out_of_range);
    EXPECT_THAT(text, HasSubstr("label " + std::to_string(bad) + " in row 2 is not one of the classes 0 to 2"));
  }
}

TEST(OpRunErrors, BadIndexNamesIndexAndRows) {
  const auto text = error_of([&] { run_op("Gather", {Tensor::zeros({4, 3}), ints({2}, {3, 4})}); }, Code::out_of_range);
  EXPECT_THAT(text, HasSubstr("index 4 at position 1 is outside the 4 rows"));
  const auto negative = error_of([&] { run_op("OneHot", {ints({1}, {-1})}, {{"depth", 3}}); }, Code::out_of_range);
  EXPECT_THAT(negative, HasSubstr("index -1 at position 0 is outside the 3 rows"));
}

// With an unknown batch the shapes are inferred as far as they go, and checked when the batch is known.
class UnknownBatch : public OpErrors {};

TEST_F(UnknownBatch, IsCarriedThrough) {
  const Value x = input({kUnknown, 4, 6});
  EXPECT_EQ(reshape(x, {-1, 24}).shape(), (Shape{kUnknown, 24}));
  EXPECT_EQ(flatten(x).shape(), (Shape{kUnknown, 24}));
  EXPECT_EQ(transpose(x, {2, 0, 1}).shape(), (Shape{6, kUnknown, 4}));
  EXPECT_EQ(slice(x, {0, 1, 0}, {-1, 2, 6}).shape(), (Shape{kUnknown, 2, 6}));
  EXPECT_EQ(concat({x, x}, 0).shape(), (Shape{kUnknown, 4, 6}));
  EXPECT_EQ(concat({x, x}, 1).shape(), (Shape{kUnknown, 8, 6}));
  EXPECT_EQ(concat({x, input({5, 4, 1})}, 2).shape(), (Shape{5, 4, 7}));
  EXPECT_EQ(split(x, 3, 2)[1].shape(), (Shape{kUnknown, 4, 2}));
  EXPECT_EQ(split(x, 3, 0)[1].shape(), (Shape{kUnknown, 4, 6}));
  EXPECT_EQ(pad(x, {0, 1, 0}, {0, 1, 2}).shape(), (Shape{kUnknown, 6, 8}));
  EXPECT_EQ(sum(x, {1}).shape(), (Shape{kUnknown, 6}));
  EXPECT_EQ(mean(x, {0, 2}, true).shape(), (Shape{1, 4, 1}));
  EXPECT_EQ(argmax(x).shape(), (Shape{kUnknown, 4}));
  EXPECT_EQ((x + input({6})).shape(), (Shape{kUnknown, 4, 6}));
  EXPECT_EQ(select(input({4, 1}, DType::boolean), x, input({})).shape(), (Shape{kUnknown, 4, 6}));
  EXPECT_EQ(softmax_cross_entropy(x, input({7, 4}, DType::int32)).shape(), (Shape{7, 4}));
  EXPECT_EQ(gather(input({9, 3}), input({kUnknown}, DType::int32)).shape(), (Shape{kUnknown, 3}));
}

/// d Σ f(x)² / dx for a batch of `n` that the graph does not know, against the same graph built for a known batch.
template <class F>
void expect_same_with_known_batch(F f, std::int64_t n) {
  std::vector<std::vector<double>> results;
  std::vector<float> numbers(static_cast<std::size_t>(n) * 12);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>((i * 7) % 11) - 4.5f;
  for (const std::int64_t batch : {kUnknown, n}) {
    Graph graph;
    const Value x = graph.placeholder("x", DType::float32, {batch, 2, 6});
    const Value dx = gradients(sum(square(f(x))), std::span(&x, 1))[0];
    Session session(graph);
    results.push_back(to_doubles(session.run(dx, {{x, floats({n, 2, 6}, numbers)}})));
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST_F(UnknownBatch, GradientsDoNotNeedIt) {
  for (const std::int64_t n : {1, 3, 0}) {
    SCOPED_TRACE(n);
    expect_same_with_known_batch([](Value x) { return reshape(x, {-1, 12}); }, n);
    expect_same_with_known_batch([](Value x) { return flatten(x) * 2.f; }, n);
    expect_same_with_known_batch([](Value x) { return slice(x, {0, 1, 2}, {-1, 1, 3}); }, n);
    expect_same_with_known_batch([](Value x) { return pad(x, {0, 1, 0}, {0, 0, 2}, 3.f); }, n);
    expect_same_with_known_batch([](Value x) { return concat({x, x * 3.f}, 0); }, n);
    expect_same_with_known_batch([](Value x) { return concat({x, x * 3.f}, 2); }, n);
    expect_same_with_known_batch([](Value x) { return split(x, 3, 2)[1]; }, n);
    expect_same_with_known_batch([](Value x) { return sum(x, {0}); }, n);
    expect_same_with_known_batch([](Value x) { return mean(x, {1}, true); }, n);
    expect_same_with_known_batch([](Value x) { return max(x, {2}); }, n);
    expect_same_with_known_batch([](Value x) { return x + mean(x, {1, 2}, true); }, n);
    expect_same_with_known_batch([](Value x) { return maximum(x, x.graph->constant(0.25f)); }, n);
    expect_same_with_known_batch([](Value x) { return transpose(x, {1, 0, 2}); }, n);
    expect_same_with_known_batch([](Value x) {
      return gather(transpose(x, {2, 0, 1}), x.graph->constant(ints({2}, {1, 1})));
    }, n);
  }
}

TEST_F(UnknownBatch, IsCheckedWhenItIsKnown) {
  const Value x = input({kUnknown, 2}), y = input({kUnknown, 2});
  const Value z = x + y;
  Session session(graph);
  const auto text = error_of([&] { session.run(z, {{x, Tensor::zeros({3, 2})}, {y, Tensor::zeros({4, 2})}}); });
  EXPECT_THAT(text, HasSubstr("Add 'Add'"));
  EXPECT_THAT(text, HasSubstr("float32[3, 2], float32[4, 2]"));
}

}  // namespace
}  // namespace cohort::test
