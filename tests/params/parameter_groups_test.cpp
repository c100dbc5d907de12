#include "cohort/params/parameter_groups.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using cohort::testing::error_of;
using ::testing::HasSubstr;

const std::vector<std::string> kNames = {"encoder/conv/filter", "encoder/conv/bias", "encoder/norm/scale",
                                         "head/weight", "head/bias"};
const std::vector<Shape> kShapes = {{5, 5, 1, 6}, {6}, {6}, {84, 10}, {10}};

Section& add_group(Section& optimizer, const std::string& pattern) {
  Section& group = optimizer.add_child_entry("group");
  group.set("pattern", {pattern, "test"});
  return group;
}

std::vector<ParameterGroup> assign(Section& optimizer) {
  const ParameterGroups groups(optimizer);
  optimizer.finish();
  return groups.assign(kNames, kShapes);
}

std::vector<bool> decays(const std::vector<ParameterGroup>& groups) {
  std::vector<bool> result;
  for (const auto& group : groups) result.push_back(group.decay);
  return result;
}

TEST(ParameterGroups, ByDefaultBiasesAndScalesDoNotDecay) {
  Section optimizer("optimizer");
  const auto groups = assign(optimizer);
  EXPECT_EQ(decays(groups), (std::vector<bool>{true, false, false, true, false}));
  for (const auto& group : groups) {
    EXPECT_EQ(group.learning_rate_factor, 1);
    EXPECT_FALSE(group.frozen);
  }
}

TEST(ParameterGroups, NoDecayOn1dCanBeSwitchedOff) {
  Section optimizer("optimizer");
  optimizer.set("no_decay_on_1d", {false, "test"});
  EXPECT_EQ(decays(assign(optimizer)), (std::vector<bool>(5, true)));
}

TEST(ParameterGroups, TheFirstMatchCountsAndAGroupMaySayDecay) {
  Section optimizer("optimizer");
  add_group(optimizer, "*/scale").set("decay", {true, "test"});
  add_group(optimizer, "encoder/*").set("learning_rate_factor", {0.1, "test"});
  add_group(optimizer, "*weight").set("decay", {false, "test"});
  add_group(optimizer, "head/bia[s]").set("frozen", {true, "test"});
  const auto groups = assign(optimizer);
  EXPECT_EQ(decays(groups), (std::vector<bool>{true, false, true, false, false}));
  EXPECT_EQ(groups[0].learning_rate_factor, 0.1);
  EXPECT_EQ(groups[1].learning_rate_factor, 0.1);
  EXPECT_EQ(groups[2].learning_rate_factor, 1);   // taken by the first entry
  EXPECT_EQ(groups[2].pattern, "*/scale");
  EXPECT_FALSE(groups[3].frozen);
  EXPECT_TRUE(groups[4].frozen);
}

TEST(ParameterGroups, AnEntryThatNoParameterComesToIsAnError) {
  Section optimizer("optimizer");
  add_group(optimizer, "*/bias");
  add_group(optimizer, "haed/*");
  EXPECT_EQ(error_of([&] { assign(optimizer); }),
            "optimizer.group 2: pattern 'haed/*' matches no parameter; parameters: encoder/conv/filter encoder/conv/bias "
            "encoder/norm/scale head/weight head/bias");
  Section shadowed("optimizer");
  add_group(shadowed, "head/*");
  add_group(shadowed, "head/bias");
  EXPECT_THAT(error_of([&] { assign(shadowed); }), HasSubstr("'head/bias' matches only parameters of earlier groups"));
}

TEST(ParameterGroups, EntriesAreChecked) {
  Section nameless("optimizer");
  nameless.add_child_entry("group").set("frozen", {true, "test"});
  EXPECT_THAT(error_of([&] { assign(nameless); }), HasSubstr("optimizer.group 1: needs a pattern"));
  Section unknown("optimizer");
  add_group(unknown, "*").set("freeze", {true, "test"});
  EXPECT_THAT(error_of([&] { assign(unknown); }), HasSubstr("unknown key 'optimizer.group.freeze', did you mean 'frozen'?"));
  Section negative("optimizer");
  add_group(negative, "*").set("learning_rate_factor", {-1.0, "test"});
  EXPECT_THAT(error_of([&] { assign(negative); }), HasSubstr("allowed: value >= 0"));
}

}  // namespace
}  // namespace cohort
