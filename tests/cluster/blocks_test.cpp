// Which parameter task keeps what.
#include "tasks/blocks.hpp"

#include <gtest/gtest.h>

#include "cohort/params/optimizer.hpp"

namespace cohort {
namespace {

/// Variables of so many elements, in the order of creation.
class Blocks : public ::testing::Test {
 protected:
  void make(const std::vector<std::int64_t>& sizes) {
    for (std::size_t i = 0; i < sizes.size(); ++i) (void)graph_.variable("v" + std::to_string(i), Shape{sizes[i]}, "zeros");
    layout_ = std::make_unique<ParameterLayout>(graph_, [](auto names, auto) { return std::vector<ParameterGroup>(names.size()); });
  }
  /// By variable in the order of creation, the task that keeps its first element; checks that each element has one task.
  [[nodiscard]] std::vector<int> owners(const std::string& strategy, int tasks) const {
    const std::vector<Shard> shards = deal_out(*layout_, strategy, tasks);
    std::vector<int> count(static_cast<std::size_t>(layout_->flat_size()), 0), owner(count.size(), -1), result;
    for (int task = 0; task < tasks; ++task) {
      for (const FlatRange& range : shards[static_cast<std::size_t>(task)].owned()) {
        EXPECT_EQ(range.begin % ParameterLayout::kUnit, 0);
        for (std::int64_t i = range.begin; i < range.end(); ++i) {
          ++count[static_cast<std::size_t>(i)];
          owner[static_cast<std::size_t>(i)] = task;
        }
      }
    }
    for (const int each : count) EXPECT_EQ(each, 1);
    for (std::size_t v = layout_->trained().size(); v-- > 0;) {     // the last defined comes first
      result.push_back(owner[static_cast<std::size_t>(layout_->trained()[v].offset)]);
    }
    return result;
  }

  Graph graph_;
  std::unique_ptr<ParameterLayout> layout_;
};

TEST_F(Blocks, RoundRobinFollowsTheOrderOfCreation) {
  make({5, 300, 1, 77, 1024});
  EXPECT_EQ(owners("round_robin", 3), (std::vector<int>{0, 1, 2, 0, 1}));
  EXPECT_EQ(owners("round_robin", 1), (std::vector<int>{0, 0, 0, 0, 0}));
}

TEST_F(Blocks, GreedyTakesTheTaskWithTheFewestBytesAndTheFirstOfEquals) {
  make({100, 30, 20, 60, 10});
  EXPECT_EQ(owners("greedy", 3), (std::vector<int>{0, 1, 2, 2, 1}));   // loads 100 | 30 | 20 → 80 | 1: 30 + 10
}

TEST_F(Blocks, FlatIsEqualHoweverParametersLie) {
  make({10 * 256, 1, 3 * 256, 7});
  for (const int tasks : {1, 2, 3, 4, 20}) {
    (void)owners("flat", tasks);
    std::int64_t least = layout_->flat_size(), most = 0;
    for (const Shard& shard : deal_out(*layout_, "flat", tasks)) {
      least = std::min(least, shard.size());
      most = std::max(most, shard.size());
    }
    EXPECT_LE(most - least, ParameterLayout::kUnit);
  }
}

TEST_F(Blocks, AreSaidInWords) {
  make({5, 300});
  const std::string text = blocks_text(*layout_, deal_out(*layout_, "round_robin", 2));
  EXPECT_NE(text.find("task 0, 0.00 MiB: v0"), std::string::npos) << text;
  EXPECT_NE(text.find("task 1, 0.00 MiB: v1"), std::string::npos) << text;
}

}  // namespace
}  // namespace cohort
