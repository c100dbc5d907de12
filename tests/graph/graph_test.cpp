#include "cohort/graph/graph.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "cohort/exec/session.hpp"
#include "cohort/graph/device_spec.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using testing::error_of;

TEST(Graph, ErrorsNameOpNodeInputAndShapes) {
  Graph g;
  const Value a = g.placeholder("a", DType::float32, {2, 3});
  const Value b = g.placeholder("b", DType::float32, {4});
  const std::string text = error_of([&] { (void)(a + b); });
  EXPECT_THAT(text, HasSubstr("Add 'Add'"));
  EXPECT_THAT(text, HasSubstr("float32[2, 3]"));
  EXPECT_THAT(text, HasSubstr("float32[4]"));
  EXPECT_THAT(error_of([&] { g.add("Reluu", {a}); }), HasSubstr("unknown op 'Reluu', did you mean 'Relu'?"));
  Graph other;
  EXPECT_THAT(error_of([&] { other.add("Relu", {a}); }), HasSubstr("input 0 is a value of another graph"));
}

TEST(Graph, ScopesSetNamesDevicesAndControlAndTakeThemBack) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {1});
  Value inner, outer;
  {
    const Scope names = g.name_scope("layer");
    const Scope device = g.device("/job:worker/device:GPU:1");
    {
      const Scope by_function = g.device([](const NodeData& node) { return node.op == "Relu" ? "/cpu:0" : ""; });
      const Scope control = g.depends_on({x});
      inner = relu(x);
      outer = exp(x);
    }
    EXPECT_EQ(g.node(relu(x).node).device, "/job:worker/device:GPU:1");
  }
  EXPECT_EQ(g.node(inner.node).name, "layer/Relu");
  EXPECT_EQ(g.node(inner.node).device, "/cpu:0");
  EXPECT_EQ(g.node(outer.node).device, "/job:worker/device:GPU:1");
  EXPECT_THAT(g.node(inner.node).control, ElementsAre(x.node));
  const Value after = relu(x);
  EXPECT_EQ(g.node(after.node).device, "");
  EXPECT_TRUE(g.node(after.node).control.empty());
  {
    const Scope with = g.colocate(inner);
    EXPECT_EQ(g.node(relu(x).node).device, "/cpu:0");
  }
}

TEST(Graph, VariablesOfOneNameAreOne) {
  Graph g;
  const Value a = g.variable("v", {2}, "zeros");
  EXPECT_EQ(g.variable("v", {2}, "zeros"), a);
  EXPECT_THAT(error_of([&] { g.variable("v", {3}, "zeros"); }), HasSubstr("exists as Variable float32[2]"));
  EXPECT_EQ(g.variables().size(), 1u);
}

TEST(Gradients, RunThroughSeveralPathsAndBroadcasts) {
  Graph g;
  const Value x = g.variable("x", {2, 3}, "zeros");
  const Value b = g.variable("b", {3}, "zeros");
  const Value unused = g.variable("unused", {2}, "zeros");
  const Value y = x + b;
  const Value loss = sum(y * y + 3.f * x);      // d/dx = 2 (x + b) + 3, d/db = Σ rows 2 (x + b)
  const std::array wrt{x, b, unused};
  const auto dx = gradients(loss, wrt);
  Session session(g);
  session.variable(x).copy_from(Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6}));
  session.variable(b).copy_from(Tensor::of<float>({3}, {1, 0, -1}));
  const auto values = session.run(dx);
  EXPECT_THAT(values[0].to_vector<float>(), ElementsAre(7, 7, 7, 13, 13, 13));
  EXPECT_THAT(values[1].to_vector<float>(), ElementsAre(14, 14, 14));
  EXPECT_THAT(values[2].to_vector<float>(), ElementsAre(0, 0));
}

TEST(Gradients, ABatchOfOneThatWasBroadcastIsSummed) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown, 2});
  const Value y = g.placeholder("y", DType::float32, {Shape::kUnknown, 2});
  const std::array wrt{x};
  const auto dx = gradients(sum(x * y), wrt);
  Session session(g);
  const Feeds feeds = {{x, Tensor::of<float>({1, 2}, {1, 1})}, {y, Tensor::of<float>({3, 2}, {1, 2, 3, 4, 5, 6})}};
  const Tensor value = session.run(dx[0], feeds);
  EXPECT_EQ(value.shape(), Shape({1, 2}));
  EXPECT_THAT(value.to_vector<float>(), ElementsAre(9, 12));
}

const Registered<Op> opaque{"TestOpaque", {.infer = same_as_first}};

TEST(Gradients, RefuseWhatHasNone) {
  Graph g;
  const Value x = g.variable("x", {2}, "zeros");
  const std::array wrt{x};
  EXPECT_THAT(error_of([&] { (void)gradients(x, wrt); }), HasSubstr("must be a float32 scalar"));
  const Value hard = mean(g.add("TestOpaque", {x}));
  EXPECT_THAT(error_of([&] { (void)gradients(hard, wrt); }), HasSubstr("has no gradient"));
}

TEST(DeviceSpec, ParsesWholePartialAndShortForms) {
  EXPECT_EQ(DeviceSpec::parse("/job:ps/task:3/device:gpu:1").text(), "/job:ps/task:3/device:GPU:1");
  EXPECT_EQ(DeviceSpec::parse("/gpu:0").text(), "/device:GPU:0");
  EXPECT_EQ(DeviceSpec::parse("/device:CPU:*").text(), "/device:CPU:*");
  EXPECT_EQ(DeviceSpec::parse("").text(), "");
  for (const char* bad : {"gpu:0", "/gpu", "/gpu:x", "/task:-1", "/disk:0", "//"}) {
    EXPECT_THAT(error_of([&] { (void)DeviceSpec::parse(bad); }), HasSubstr(std::string("device '") + bad)) << bad;
  }
}

}  // namespace
}  // namespace cohort
