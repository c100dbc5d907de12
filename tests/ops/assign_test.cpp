#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/run_node.hpp"

namespace cohort {
namespace {

using test::random_tensor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Variables, MoveTowardsAndAssignWriteInPlace) {
  Graph g;
  const Value v = g.variable("v", {3}, "zeros"), x = g.placeholder("x", DType::float32, {3});
  const Value moved = g.add("MoveTowards", {v, x}, {{"decay", 0.75}}), assigned = g.add("Assign", {v, x});
  Session session(g);
  const Tensor feed = Tensor::of<float>({3}, {4, 8, -4});
  EXPECT_THAT(session.run(moved, {{x, feed}}).to_vector<float>(), ElementsAre(1, 2, -1));
  EXPECT_THAT(session.run(moved, {{x, feed}}).to_vector<float>(), ElementsAre(1.75, 3.5, -1.75));
  EXPECT_THAT(session.variable(v).to_vector<float>(), ElementsAre(1.75, 3.5, -1.75));
  session.run(assigned, {{x, feed}});
  EXPECT_THAT(session.variable(v).to_vector<float>(), ElementsAre(4, 8, -4));
}

TEST(Variables, OnlyVariablesAreWritten) {
  // A feed's memory belongs to the caller.
  Graph g;
  const Value fed = g.placeholder("fed", DType::float32, {1}), x = g.placeholder("x", DType::float32, {1});
  const Value written = g.add("Assign", {fed, x}, {}, "write");
  Session session(g);
  const Tensor one = Tensor::of<float>({1}, {1});
  EXPECT_THAT(test::error_of([&] {
                session.run(written, {{fed, Tensor::zeros({1})}, {x, one}});
              }),
              HasSubstr("'write' writes the feed 'fed'"));
}

TEST(Variables, RefusesOtherShapesAndDecays) {
  Graph g;
  const Value v = g.variable("v", {2}, "zeros"), x = g.placeholder("x", DType::float32, {3}),
              y = g.placeholder("y", DType::float32, {2});
  EXPECT_THAT(test::error_of([&] { g.add("Assign", {v, x}); }), HasSubstr("must have the same shape"));
  EXPECT_THAT(test::error_of([&] { g.add("MoveTowards", {v, y}, {{"decay", 1.5}}); }), HasSubstr("decay is 1.5"));
}

TEST(Variables, WritesLeaveThePaddingOfABoundVariableAlone) {
  for (const char* op : {"Assign", "MoveTowards"}) {
    Graph g;
    const Value v = g.variable("v", {2, 3}, "zeros"), x = g.placeholder("x", DType::float32, {2, 3});
    const Value written = g.add(op, {v, x}, {{"decay", 0.0}});
    Session session(g);
    const Tensor memory = test::padded(Tensor::zeros({2, 3}), 2);
    session.bind(v, memory);
    const Tensor feed = random_tensor({2, 3}, 1);
    EXPECT_EQ(session.run(written, {{x, feed}}).to_vector<float>(), feed.to_vector<float>()) << op;
    EXPECT_EQ(memory.to_vector<float>(), feed.to_vector<float>()) << op;
    EXPECT_TRUE(test::padding_untouched(memory)) << op;
  }
}

}  // namespace
}  // namespace cohort
