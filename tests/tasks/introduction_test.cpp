// What a process is told that takes a worker's place in the middle of a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "support/training.hpp"
#include "tasks/introduction.hpp"

namespace cohort {
namespace {

using testing::numbers;
using testing::Options;
using testing::section_of;
using testing::TemporaryFolder;
using testing::with;

constexpr int kTasks = 2;

Options job() {
  return {{"model.type", std::string("resnet")}, {"model.depth", std::int64_t{8}}, {"model.width", std::int64_t{2}},
          {"data.global_batch", std::int64_t{2}}, {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{4}},
          {"data.train.shape", numbers({8, 8, 1})}, {"cluster.ps", std::int64_t{kTasks}}, {"train.updater", std::string("async")},
          {"train.device", std::string("CPU:0")}, {"optimizer.type", std::string("sgd")}};
}

/// Two parameter tasks, of which the first knows best, and a new worker, in a job of four ranks.
void introduce(const Options& task, const Options& worker, const std::function<void(const Introduction&, const Parameters&)>& look) {
  const TemporaryFolder folder;
  run_as_threads(kTasks + 1, [&](Communicator& joined) {
    const bool is_new = joined.rank() == kTasks;
    Communicator alone = joined.alone();
    Section config = section_of(is_new ? worker : task);
    Run run(alone, config, RunDirectory{folder.path() / std::to_string(joined.rank()), {}}, 4);
    const Setup setup(alone, run.plan);
    if (is_new) return look(Introduction(joined), *setup.parameters);
    run.state.step = 40 + joined.rank();
    run.state.position = {.epoch = 3, .sample = 2};
    float next = joined.rank() == 0 ? 1.f : -1.f;
    for (const Parameters::Other& other : setup.parameters->others()) {
      std::vector<float> values(static_cast<std::size_t>(other.value.elements()));
      for (float& value : values) value = next *= 1.01f;
      other.value.copy_from(Tensor::of(other.value.shape(), values));
    }
    Introduction(run, *setup.parameters, 5 + joined.rank()).tell(joined);
  });
}

TEST(Introduction, SaysWhatTheTokenTasksRankKnows) {
  introduce(job(), job(), [](const Introduction& told, const Parameters& parameters) {
    EXPECT_THAT(told.directory(), ::testing::EndsWith("/0"));
    EXPECT_EQ(told.beat().step, 40);
    EXPECT_EQ(told.beat().position, (Position{.epoch = 3, .sample = 2}));
    EXPECT_EQ(told.threads(), 5);
    told.give_others(parameters);
    ASSERT_FALSE(parameters.others().empty());
    float next = 1;
    for (const Parameters::Other& other : parameters.others()) {
      for (const float value : other.value.to_vector<float>()) ASSERT_EQ(value, next *= 1.01f) << other.name;
    }
  });
}

TEST(Introduction, IsRefusedByAnotherModel) {
  introduce(job(), with(job(), {{"model.depth", std::int64_t{14}}}), [](const Introduction& told, const Parameters& parameters) {
    try {
      told.give_others(parameters);
      ADD_FAILURE() << "statistics of another model were taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::failed_precondition);
      EXPECT_THAT(error.what(), ::testing::HasSubstr("another model"));
    }
  });
}

}  // namespace
}  // namespace cohort
