#include "cohort/exec/session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <thread>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using testing::error_of;

TEST(Session, RunsAFedGraphForEveryShape) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown});
  const Value y = relu(x);
  Session session(g);
  EXPECT_THAT(session.run(y, {{x, Tensor::of<float>({3}, {-1, 0, 2})}}).to_vector<float>(), ElementsAre(0, 0, 2));
  EXPECT_THAT(session.run(y, {{x, Tensor::of<float>({1}, {5})}}).to_vector<float>(), ElementsAre(5));
  EXPECT_TRUE(session.run(y, {{x, Tensor::of<float>({0}, {})}}).to_vector<float>().empty());
}

TEST(Session, RefusesWrongAndMissingFeeds) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown, 2});
  const Value y = relu(x);
  Session session(g);
  EXPECT_THAT(error_of([&] { session.run(y); }), HasSubstr("placeholder 'x' is needed and not fed"));
  EXPECT_THAT(error_of([&] { session.run(y, {{x, Tensor::zeros({3})}}); }), HasSubstr("shape [3] does not fit [?, 2]"));
}

TEST(Session, AFetchIsComputedInBoundMemory) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {4});
  const Value y = relu(x);
  Session session(g);
  const Tensor mine = Tensor::zeros({4});
  session.bind(y, mine);
  Step& step = session.prepare(std::span(&y, 1), {{x, Shape{4}}});
  const Tensor feed = Tensor::of<float>({4}, {-1, 1, 2, -2});
  step.run(std::span(&feed, 1));
  EXPECT_EQ(step.fetch(0).raw(), mine.raw());
  EXPECT_EQ(step.arena_bytes(), 0u);
  EXPECT_THAT(mine.to_vector<float>(), ElementsAre(0, 1, 2, 0));
}

TEST(Session, AVariableBoundToPaddedMemoryIsReadThroughItsRows) {
  Graph g;
  const Value v = g.variable("v", {2, 2}, "zeros");
  const Value y = relu(v);
  Session session(g);
  const Tensor padded(host(), DType::float32, {2, 2}, 5);
  padded.copy_from(Tensor::of<float>({2, 2}, {1, -2, 3, -4}));
  session.bind(v, padded);
  EXPECT_THAT(session.run(y).to_vector<float>(), ElementsAre(1, 0, 3, 0));
  EXPECT_THAT(error_of([&] { session.bind(v, padded); }), HasSubstr("bound after a step"));
}

TEST(Session, DeviceRequestsThatItCannotMeetAreRefused) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {1});
  Value y;
  {
    const Scope on_gpu = g.device("/device:GPU:0");
    y = relu(x);
  }
  Session session(g);
  EXPECT_THAT(error_of([&] {
                session.run(y, {{x, Tensor::zeros({1})}});
              }),
              HasSubstr("asks for device '/device:GPU:0'; this session has CPU:0"));
}

TEST(Session, InitialValuesDependOnSeedAndNameOnly) {
  const auto values = [](std::uint64_t seed, bool other_first) {
    Graph g;
    if (other_first) g.variable("other", {3}, "normal");
    const Value v = g.variable("v", {100, 3}, "he_normal");
    Session session(g, {.seed = seed});
    return session.variable(v).to_vector<float>();
  };
  EXPECT_EQ(values(1, false), values(1, true));
  EXPECT_NE(values(1, false), values(2, false));
}

// A kernel that finishes on another thread, and later.
struct SlowDouble final : Kernel {
  explicit SlowDouble(const NodeInfo&) {}
  ~SlowDouble() override {
    if (thread.joinable()) thread.join();
  }
  bool finishes_later() const noexcept override { return true; }
  void run(KernelContext& c) override {
    if (thread.joinable()) thread.join();
    thread = std::thread([&c] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      for (std::int64_t i = 0; i < c.out().elements(); ++i) c.out().data<float>()[i] = 2 * c.in(0).data<float>()[i];
      c.done();
    });
  }
  std::thread thread;
};
const Registered<Op> slow_op{"TestSlowDouble", {.infer = same_as_first}};
const RegisteredKernel slow_kernel{"TestSlowDouble", "CPU", make_kernel<SlowDouble>};

TEST(Session, WaitsForKernelsThatFinishLater) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {3});
  const Value slow = g.add("TestSlowDouble", {relu(x)});
  const std::array fetches{relu(slow), Value(relu(x))};
  Session session(g);
  int polls = 0;
  Step& step = session.prepare(fetches, {{x, Shape{3}}}, {.ready = {}, .poll = [&] { ++polls; }});
  for (int round = 1; round < 4; ++round) {
    const Tensor feed = Tensor::of<float>({3}, {1.f * static_cast<float>(round), -1, 3});
    step.run(std::span(&feed, 1));
    EXPECT_THAT(step.fetch(0).to_vector<float>(), ElementsAre(2.f * static_cast<float>(round), 0, 6));
  }
  EXPECT_GT(polls, 3);
}

// A kernel that never says that it is done.
struct NeverDone final : Kernel {
  explicit NeverDone(const NodeInfo&) {}
  bool finishes_later() const noexcept override { return true; }
  void run(KernelContext&) override {}
};
const Registered<Op> never_op{"TestNeverDone", {.infer = same_as_first}};
const RegisteredKernel never_kernel{"TestNeverDone", "CPU", make_kernel<NeverDone>};

TEST(Session, NamesTheNodeThatDoesNotFinishAndTheStep) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {3});
  const Value never = g.add("TestNeverDone", {x});
  Session session(g, {.wait_limit = 0.01});
  Step& step = session.prepare(std::array{relu(never)}, {{x, Shape{3}}});
  const Tensor feed = Tensor::zeros({3});
  try {
    step.run(std::span(&feed, 1), {.step = 17});
    FAIL() << "a run that nothing ends has ended";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::deadline_exceeded);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("TestNeverDone '" + g.node(never.node).name + "' on CPU:0"), HasSubstr("at step 17"),
                                    HasSubstr("0.01 s")));
  }
}

TEST(Session, AStepThatWasPreparedBeforeABindIsNotTakenForOneAfterIt) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {2});
  const std::array fetches{relu(x)};
  Session session(g);
  const Tensor feed = Tensor::of<float>({2}, {3, -4});
  Step& before = session.prepare(fetches, {{x, Shape{2}}});
  EXPECT_EQ(&before, &session.prepare(fetches, {{x, Shape{2}}}));
  for (int round = 0; round < 2; ++round) {                    // a second bind takes the place of the first
    const Tensor storage = Tensor::zeros({2});
    session.bind(fetches[0], storage);
    Step& after = session.prepare(fetches, {{x, Shape{2}}});
    EXPECT_EQ(&after, &session.prepare(fetches, {{x, Shape{2}}}));
    after.run(std::span(&feed, 1));
    EXPECT_THAT(storage.to_vector<float>(), ElementsAre(3, 0)) << "bind " << round;
  }
}

TEST(Session, AStepWhoseFetchNobodyLooksAtIsNotTakenForOneWithThatFetch) {
  Graph g;
  const Value x = g.placeholder("x", DType::float32, {2});
  const Value first = relu(x);
  const std::array fetches{first, exp(exp(first))};
  Session session(g);
  const Tensor feed = Tensor::of<float>({2}, {0, -4});
  StepHooks consumed;
  consumed.consumed = {true, false};
  Step& without = session.prepare(fetches, {{x, Shape{2}}}, consumed);
  without.run(std::span(&feed, 1));
  EXPECT_THAT(without.fetch(0).to_vector<float>(), ::testing::Not(ElementsAre(0, 0))) << "its memory was not needed again";
  Step& with = session.prepare(fetches, {{x, Shape{2}}});
  with.run(std::span(&feed, 1));
  EXPECT_THAT(with.fetch(0).to_vector<float>(), ElementsAre(0, 0));
}

}  // namespace
}  // namespace cohort
