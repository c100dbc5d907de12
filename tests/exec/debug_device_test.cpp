#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cohort/exec/session.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

using ::testing::ElementsAre;

class DebugDevice : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_NE(dlopen(COHORT_DEBUG_PLUGIN, RTLD_NOW), nullptr) << dlerror(); }
};

TEST_F(DebugDevice, CopiesInAndOutThroughItsStream) {
  const auto device = open_device("DEBUG:0");
  const Tensor there(*device, DType::float32, {3});
  there.copy_from(Tensor::of<float>({3}, {1, 2, 3}));
  EXPECT_THAT(there.to_vector<float>(), ElementsAre(1, 2, 3));
}

TEST_F(DebugDevice, WorkRunsOnlyWhenSynchronized) {
  const auto device = open_device("DEBUG:0");
  bool ran = false;
  device->stream().launch([&] { ran = true; });
  EXPECT_FALSE(ran);
  device->stream().synchronize();
  EXPECT_TRUE(ran);
}

TEST_F(DebugDevice, TheHostMayNotTouchItsMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto device = open_device("DEBUG:0");
  const Tensor there(*device, DType::float32, {3});
  EXPECT_DEATH(*there.data<float>() = 1, "the host touched memory of DEBUG:0");
}

TEST_F(DebugDevice, RunsAGraphLikeTheCpu) {
  const auto run = [](const std::string& device) {
    Graph g;
    const Value x = g.placeholder("x", DType::float32, {Shape::kUnknown});
    const Value y = relu(relu(x));
    Session session(g, {.device = device});
    return session.run(y, {{x, Tensor::of<float>({4}, {-1, 2, -3, 4})}}).to_vector<float>();
  };
  EXPECT_EQ(run("CPU:0"), run("DEBUG:0"));
}

}  // namespace
}  // namespace cohort
