// ClusterSpec, row by row of what TensorFlow's does, with ranks for addresses.
#include "cohort/cluster/cluster_spec.hpp"

#include <gtest/gtest.h>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

using Lists = std::map<std::string, std::vector<int>>;
using Sparse = std::map<std::string, ClusterSpec::Tasks>;

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ClusterSpec, AnswersForJobsTasksAndRanks) {
  const ClusterSpec spec(Lists{{"worker", {2, 3, 4}}, {"ps", {0, 1}}});
  EXPECT_EQ(spec.jobs(), (std::vector<std::string>{"ps", "worker"}));
  EXPECT_EQ(spec.num_tasks("worker"), 3);
  EXPECT_EQ(spec.task_indices("ps"), (std::vector<int>{0, 1}));
  EXPECT_EQ(spec.rank("worker", 2), 4);
  EXPECT_EQ(spec.task_of("worker", 3), 1);
  EXPECT_EQ(spec.task_of("worker", 0), std::nullopt);
  EXPECT_EQ(spec.text(), "ps: 0 1; worker: 2 3 4");
}

TEST(ClusterSpec, MayHaveHoles) {
  const ClusterSpec spec(Sparse{{"worker", {{3, 7}, {1, 5}}}});
  EXPECT_EQ(spec.num_tasks("worker"), 2);
  EXPECT_EQ(spec.task_indices("worker"), (std::vector<int>{1, 3}));
  EXPECT_EQ(spec.ranks("worker"), (std::vector<std::optional<int>>{std::nullopt, 5, std::nullopt, 7}));
}

TEST(ClusterSpec, NamesWhatIsNotThere) {
  const ClusterSpec spec(Lists{{"worker", {0, 1}}});
  EXPECT_EQ(error_of([&] { (void)spec.num_tasks("ps"); }), "No such job in cluster: 'ps'");
  EXPECT_EQ(error_of([&] { (void)spec.rank("worker", 2); }), "No task with index 2 in job 'worker'");
}

TEST(ClusterSpec, ListsAndMapsAreEqualAndOrderMatters) {
  EXPECT_EQ(ClusterSpec(Lists{{"worker", {4, 5}}}), ClusterSpec(Sparse{{"worker", {{0, 4}, {1, 5}}}}));
  EXPECT_FALSE(ClusterSpec(Lists{{"worker", {4, 5}}}) == ClusterSpec(Lists{{"worker", {5, 4}}}));
  EXPECT_TRUE(ClusterSpec().empty());
  EXPECT_FALSE(ClusterSpec(Lists{{"worker", {}}}).empty());
}

TEST(ClusterOptions, DealOutTheRolesByRank) {
  ClusterOptions options;
  EXPECT_EQ(options.spec(3).text(), "ps: 0 1 2; worker: 0 1 2");
  EXPECT_FALSE(options.survives());
  options.ps = 2;
  EXPECT_EQ(options.spec(5).text(), "ps: 0 1; worker: 2 3 4");
  EXPECT_TRUE(options.survives());
  options.worker = 3;
  EXPECT_EQ(options.spec(5).num_tasks("worker"), 3);
  EXPECT_NE(error_of([&] { (void)options.spec(6); }).find("2 parameter tasks and 3 workers, but the job has 6 ranks"), std::string::npos);
  options.survive = "off";
  EXPECT_FALSE(options.survives());
}

}  // namespace
}  // namespace cohort
