// When a run validates, saves and ends: positions and options, and the decisions that somebody would write down for them by hand.
#include "run/boundary_policy.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "run/skipped_updates.hpp"

namespace cohort {
namespace {

struct RunOptionsOfCase {
  std::int64_t epochs = 3, max_steps = 0, validate_every = 1, save_epochs = 1, save_steps = 0;
  bool data = true;                          // for validation
};

struct Case {
  const char* what;
  RunOptionsOfCase options;
  RunPoint at;
  std::int64_t phase_end;
  const char* due;                           // a letter each: validates, Epoch's save, Step's save, ends, Phase is over
};

std::string letters(const Boundary& due) {
  return std::string(due.evaluation ? "v" : "") + (due.save_of_epoch ? "E" : "") + (due.save_of_step ? "S" : "") + (due.end ? "e" : "") +
         (due.phase ? "P" : "");
}

BoundaryPolicy policy_of(const RunOptionsOfCase& options) {
  TrainOptions train;
  train.epochs = options.epochs;
  train.max_steps = options.max_steps;
  train.validate_every = options.validate_every;
  CheckpointOptions checkpoint;
  checkpoint.every_epochs = options.save_epochs;
  checkpoint.every_steps = options.save_steps;
  return {train, checkpoint, options.data};
}

constexpr std::int64_t kFar = 99;            // the end of a phase that is not near

const std::vector<Case> kCases{
    {"in the middle of an epoch nothing is due", {}, {.step = 7, .position = {1, 40}}, kFar, ""},
    {"an epoch ends", {}, {.step = 10, .position = {1, 0}}, kFar, "vE"},
    {"the last one ends", {}, {.step = 30, .position = {3, 0}}, 3, "vEeP"},
    {"without data nothing is validated", {.data = false}, {.step = 30, .position = {3, 0}}, 3, "EeP"},
    {"validations in every second epoch: not the first", {.validate_every = 2}, {.step = 10, .position = {1, 0}}, kFar, "E"},
    {"validations in every second epoch: the second", {.validate_every = 2}, {.step = 20, .position = {2, 0}}, kFar, "vE"},
    {"at the end there is one always", {.validate_every = 0}, {.step = 30, .position = {3, 0}}, 3, "vEeP"},
    {"and never before with 0", {.validate_every = 0}, {.step = 20, .position = {2, 0}}, kFar, "E"},
    {"checkpoints of every second epoch: not the first", {.save_epochs = 2}, {.step = 10, .position = {1, 0}}, kFar, "v"},
    {"checkpoints of no epoch: the end has one all the same", {.save_epochs = 0}, {.step = 30, .position = {3, 0}}, 3, "vEeP"},
    {"checkpoints by steps", {.save_steps = 5}, {.step = 15, .position = {1, 40}}, kFar, "S"},
    {"and not between", {.save_steps = 5}, {.step = 16, .position = {1, 48}}, kFar, ""},
    {"not twice for one step", {.save_steps = 5}, {.step = 15, .position = {1, 40}, .saved_step = 15}, kFar, ""},
    {"a step that ends an epoch", {.save_steps = 5}, {.step = 20, .position = {2, 0}}, kFar, "vES"},
    {"what was put off comes at once", {}, {.step = 7, .position = {1, 40}, .save_was_put_off = true}, kFar, "S"},
    {"but not for the step for which it was", {}, {.step = 7, .position = {1, 40}, .save_was_put_off = true, .saved_step = 7}, kFar, ""},
    {"a limit on steps", {.max_steps = 7}, {.step = 7, .position = {1, 40}}, kFar, "vEe"},
    {"before it", {.max_steps = 7}, {.step = 6, .position = {1, 32}}, kFar, ""},
    {"stopped in an epoch: who goes on does not validate", {}, {.step = 7, .position = {1, 40}, .stopped = true}, kFar, "Ee"},
    {"stopped at the end of an epoch: who goes on validates", {}, {.step = 10, .position = {1, 0}, .stopped = true}, kFar, "Ee"},
    {"a phase ends", {.epochs = 9}, {.step = 20, .position = {2, 0}}, 2, "vEP"},
    {"a phase ends at which nothing else is due", {.epochs = 9, .validate_every = 0, .save_epochs = 0}, {.step = 20, .position = {2, 0}}, 2, "P"},
    {"no epoch at all", {.epochs = 0}, {}, kFar, "vEe"},
};

TEST(BoundaryPolicy, DecidesAsThisTableSays) {
  for (const Case& each : kCases) {
    EXPECT_EQ(letters(policy_of(each.options).due(each.at, each.phase_end)), each.due) << each.what;
  }
}

TEST(BoundaryPolicy, AStateIsLeftForValidationByWhoGoesOn) {
  const BoundaryPolicy policy = policy_of({});
  EXPECT_TRUE(policy.validates({.step = 10, .position = {1, 0}, .stopped = true}));
  EXPECT_FALSE(policy.validates({.step = 7, .position = {1, 40}, .stopped = true}));
  EXPECT_FALSE(policy.validates({}));                     // an epoch that has not begun has not ended
}

TEST(BoundaryPolicy, WhatIsDueAddsUp) {
  Boundary due{.save_of_step = true};
  EXPECT_TRUE(due.any());
  due |= {.evaluation = true, .end = true};
  due |= {.save_of_epoch = true, .phase = true};
  EXPECT_EQ(letters(due), "vESeP");
  EXPECT_FALSE(Boundary{}.any());
}

TEST(SkippedUpdates, PutACheckpointOffUntilAnUpdateIsMade) {
  SkippedUpdates skipped(20);
  skipped.skipped(true);
  EXPECT_TRUE(skipped.suspect());
  EXPECT_TRUE(skipped.put_off());
  EXPECT_FALSE(skipped.put_off());                        // said once
  EXPECT_FALSE(skipped.save_is_late());                   // and not made while the state is suspect
  skipped.made();
  EXPECT_TRUE(skipped.save_is_late());
  skipped.saves();
  EXPECT_FALSE(skipped.save_is_late());
  EXPECT_TRUE(skipped.put_off());
}

TEST(SkippedUpdates, AGradientThatIsDroppedAloneMakesNoStateSuspect) {
  SkippedUpdates skipped(2);
  skipped.skipped(false);
  EXPECT_FALSE(skipped.suspect());
  EXPECT_NO_THROW(skipped.check_in_a_row(4));
  skipped.skipped(false);                                 // but it counts
  EXPECT_THROW(skipped.check_in_a_row(5), Error);
  skipped.made();
  skipped.skipped(true);
  EXPECT_NO_THROW(skipped.check_in_a_row(7));
}

}  // namespace
}  // namespace cohort
