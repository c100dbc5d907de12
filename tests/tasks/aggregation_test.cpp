// The rules by which gradients become updates, case by case: SyncReplicasOptimizer and asynchronous updates as TensorFlow has them,
// where the rules follow it, and where they do not on purpose.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "cohort/run/aggregation.hpp"
#include "support/sections.hpp"

namespace cohort {
namespace {

using testing::Options;

std::unique_ptr<Aggregation> rules(const char* updater, int workers, const Options& options = {}) {
  Section section = testing::section_of(options);
  auto made = Registry<AggregationType>::instance().get(updater).make(section)(workers);
  section.finish();
  return made;
}
std::unique_ptr<Aggregation> sync_of(int workers, std::int64_t n = 0) { return rules("sync_with_backups", workers, {{"replicas_to_aggregate", n}}); }
std::unique_ptr<Aggregation> async_of(int workers, const Options& options = {}) { return rules("async", workers, options); }

/// Judges, and makes the update that is due.
Judgement judge(Aggregation& r, int worker, std::int64_t read) {
  const Judgement judgement = r.judge(worker, read);
  if (judgement.applies) r.applied();
  return judgement;
}

// SyncReplicas ------------------------------------------------------------------------------------------------------------------

TEST(SyncReplicas, FirstNGradientsOfAStepAreAveragedAndAppliedOnce) {
  auto r = sync_of(3, 2);
  for (int worker = 0; worker < 3; ++worker) EXPECT_EQ(r->begin(worker), worker);
  EXPECT_TRUE(r->judge(2, 0).accepted);
  const Judgement second = r->judge(0, 0);
  EXPECT_TRUE(second.accepted && second.applies);
  EXPECT_EQ(second.weight * second.sum_scale, 0.5);       // divided by n, not by how many have arrived
  EXPECT_EQ(second.rate_factor, 1);
}

TEST(SyncReplicas, ALateGradientIsDroppedAndCountedAndNeverApplied) {
  auto r = sync_of(3, 2);
  for (int worker = 0; worker < 3; ++worker) (void)r->begin(worker);
  (void)judge(*r, 0, 0);
  (void)judge(*r, 1, 0);
  EXPECT_EQ(r->version(), 1);
  const Judgement late = judge(*r, 2, 0);
  EXPECT_FALSE(late.accepted || late.applies);
  EXPECT_EQ(r->counts()[2].dropped, 1);
  EXPECT_EQ(r->staleness(), (std::vector<std::int64_t>{2, 1}));
  for (const int worker : {0, 1}) (void)r->begin(worker);
  EXPECT_TRUE(judge(*r, 0, 1).accepted);                  // the late one has not been counted into the next step either
  EXPECT_EQ(r->version(), 1);
  EXPECT_TRUE(judge(*r, 1, 1).applies);
}

TEST(SyncReplicas, WorkersWaitForTheStepToEnd) {
  auto r = sync_of(2);
  (void)r->begin(0);
  (void)r->begin(1);
  (void)judge(*r, 0, 0);
  EXPECT_FALSE(r->begin(0).has_value());
  EXPECT_FALSE(r->begin(0).has_value());
  EXPECT_EQ(r->counts()[0].waited, 1);                    // once, however often it asks
  (void)judge(*r, 1, 0);
  EXPECT_EQ(r->begin(0), 0);
}

TEST(SyncReplicas, MoreGradientsThanWorkersAreSeveralBatchesOfEach) {
  auto r = sync_of(2, 3);
  EXPECT_EQ(r->shares(), 3);
  EXPECT_EQ(r->begin(0), 0);
  EXPECT_EQ(r->begin(1), 1);
  EXPECT_FALSE(judge(*r, 0, 0).applies);
  EXPECT_EQ(r->begin(0), 2);
  EXPECT_FALSE(judge(*r, 1, 0).applies);
  EXPECT_FALSE(r->begin(1).has_value());                  // no fourth one
  const Judgement last = judge(*r, 0, 0);
  EXPECT_TRUE(last.applies);
  EXPECT_DOUBLE_EQ(last.sum_scale, 1.0 / 3);
}

/// TensorFlow's queue hands a late worker a token of a step that is over, and the second mini-batch of every worker is dropped.
TEST(SyncReplicas, DeviatesOnPurposeALateWorkerBeginsWithTheNewestStepAndNothingIsDroppedAtTheStart) {
  auto r = sync_of(3, 2);
  for (int worker = 0; worker < 3; ++worker) (void)r->begin(worker);
  for (int step = 0; step < 5; ++step) {
    for (const int worker : {0, 1}) {
      if (step > 0) {
        EXPECT_EQ(r->begin(worker), worker);
      }
      EXPECT_TRUE(judge(*r, worker, step).accepted);
    }
  }
  EXPECT_FALSE(judge(*r, 2, 0).accepted);
  EXPECT_EQ(r->begin(2), 2);
  EXPECT_TRUE(judge(*r, 2, 5).accepted);                  // of step 5, not of one of the four that it has missed
  EXPECT_EQ(r->counts()[0].dropped + r->counts()[1].dropped, 0);
}

TEST(SyncReplicas, GoesOnWithoutLostWorkers) {
  auto r = sync_of(3);
  for (int worker = 0; worker < 3; ++worker) (void)r->begin(worker);
  (void)judge(*r, 0, 0);
  r->leave(1);
  EXPECT_FALSE(judge(*r, 2, 0).applies);                  // two of three
  EXPECT_EQ(r->begin(0), 1);                              // what the lost one has begun is free
  EXPECT_FALSE(r->begin(1).has_value());
  EXPECT_TRUE(judge(*r, 0, 0).applies);
  EXPECT_EQ(r->begin(0), 0);
  EXPECT_EQ(r->begin(2), 2);
}

TEST(SyncReplicas, OneWorkerThatIsLeftDoesAllBatches) {
  auto r = sync_of(4);
  for (int worker = 0; worker < 4; ++worker) (void)r->begin(worker);
  for (const int worker : {0, 2, 3}) r->leave(worker);
  for (int batch = 0; batch < 4; ++batch) {
    const bool applies = judge(*r, 1, 0).applies;
    EXPECT_EQ(applies, batch == 3);
    EXPECT_EQ(r->begin(1).has_value(), true);
  }
}

// Asynchronous updates -----------------------------------------------------------------------------------------------------------

TEST(Async, EveryGradientIsAnUpdateAndItsStalenessIsCounted) {
  auto r = async_of(3);
  for (int worker = 0; worker < 3; ++worker) EXPECT_EQ(r->begin(worker), 0);
  for (int worker = 0; worker < 3; ++worker) {
    const Judgement judgement = judge(*r, worker, 0);
    EXPECT_TRUE(judgement.accepted && judgement.applies);
    EXPECT_EQ(judgement.weight * judgement.sum_scale, 1);
  }
  EXPECT_EQ(r->staleness(), (std::vector<std::int64_t>{1, 1, 1}));
}

TEST(Async, DropsAboveALimitAndLeavesTheVersionAlone) {
  auto r = async_of(4, {{"drop_above", std::int64_t{1}}});
  for (int worker = 0; worker < 4; ++worker) (void)r->begin(worker);
  EXPECT_TRUE(judge(*r, 0, 0).accepted);
  EXPECT_TRUE(judge(*r, 1, 0).accepted);                  // staleness 1: at the limit
  EXPECT_FALSE(judge(*r, 2, 0).accepted);
  EXPECT_EQ(r->version(), 2);
  EXPECT_EQ(r->counts()[2].dropped, 1);
  (void)r->begin(2);
  EXPECT_TRUE(judge(*r, 2, 2).accepted);
}

/// A gradient of staleness s.
Judgement at_staleness(Aggregation& r, std::int64_t s) {
  r.start_at(s);
  (void)r.begin(0);
  return judge(r, 0, 0);
}

TEST(Async, LearningRateByStaleness) {
  for (const std::int64_t s : {0, 1, 2, 7, 30}) {
    const Judgement judgement = at_staleness(*async_of(1, {{"lr_by_staleness", true}}), s);
    EXPECT_DOUBLE_EQ(judgement.rate_factor, 1 / std::max(1.0, static_cast<double>(s)));
    EXPECT_DOUBLE_EQ(judgement.weight * judgement.sum_scale, 1);
  }
}

TEST(Async, ScalesBack) {
  const auto weight = [](const char* how, double c, std::int64_t s) {
    const Judgement judgement = at_staleness(*async_of(1, {{"scale_back", std::string(how)}, {"scale_back_rate", c}}), s);
    EXPECT_EQ(judgement.rate_factor, 1);
    return judgement.weight * judgement.sum_scale;
  };
  for (const std::int64_t s : {0, 1, 5}) {
    const auto x = static_cast<double>(s);
    EXPECT_DOUBLE_EQ(weight("inverse", 0.5, s), 1 / (1 + 0.5 * x));
    EXPECT_DOUBLE_EQ(weight("inverse_sqrt", 2, s), 1 / std::sqrt(1 + 2 * x));
    EXPECT_DOUBLE_EQ(weight("exponential", 0.1, s), std::exp(-0.1 * x));
  }
}

/// Zhang et al.: an update adds 1/c · Σ α0/τ · g, whatever the staleness of each.
TEST(Async, SoftSyncAveragesAndEachGradientHasARateOfItsOwn) {
  auto r = async_of(6, {{"soft_sync", std::int64_t{2}}, {"lr_by_staleness", true}});
  EXPECT_EQ(r->per_update(), 3);
  r->start_at(4);
  for (int worker = 0; worker < 3; ++worker) (void)r->begin(worker);
  const std::int64_t read[] = {4, 2, 0};                  // staleness 0, 2, 4
  double weights[3];
  Judgement last;
  for (int worker = 0; worker < 3; ++worker) {
    last = r->judge(worker, read[worker]);
    EXPECT_EQ(last.applies, worker == 2);
    weights[worker] = last.weight;
  }
  const double alpha[] = {1, 1.0 / 2, 1.0 / 4};
  for (int i = 0; i < 3; ++i) EXPECT_DOUBLE_EQ(weights[i] * last.sum_scale * last.rate_factor, alpha[i] / 3);
}

TEST(Async, SoftSyncOfOneWaitsForAsManyAsThereAreWorkers) {
  EXPECT_EQ(async_of(30, {{"soft_sync", std::int64_t{1}}})->per_update(), 30);
  EXPECT_EQ(async_of(30, {{"soft_sync", std::int64_t{30}}})->per_update(), 1);
  EXPECT_EQ(async_of(30, {{"soft_sync", std::int64_t{7}}})->per_update(), 4);
  EXPECT_EQ(async_of(3, {{"soft_sync", std::int64_t{7}}})->per_update(), 1);
}

TEST(Async, AWorkerMoreThanTheBoundAheadOfTheSlowestWaits) {
  for (const std::int64_t bound : {0, 1, 3}) {
    auto r = async_of(2, {{"bound", bound}});
    EXPECT_TRUE(r->begin(1).has_value());                 // the slow one
    for (std::int64_t clock = 0; clock <= bound; ++clock) {
      EXPECT_TRUE(r->begin(0).has_value()) << clock;
      (void)judge(*r, 0, r->version());
    }
    EXPECT_FALSE(r->begin(0).has_value());                // it would be bound + 1 ahead
    EXPECT_EQ(r->counts()[0].waited, 1);
    (void)judge(*r, 1, 0);
    EXPECT_TRUE(r->begin(0).has_value());
  }
}

TEST(Async, NobodyWaitsForALostWorkerAndOneThatJoinsBeginsWhereTheSlowestIs) {
  auto r = async_of(3, {{"bound", std::int64_t{0}}});
  for (int worker = 0; worker < 3; ++worker) (void)r->begin(worker);
  (void)judge(*r, 0, 0);
  (void)judge(*r, 1, 1);
  EXPECT_FALSE(r->begin(0).has_value());
  r->leave(2);
  EXPECT_TRUE(r->begin(0).has_value());
  (void)judge(*r, 0, 2);
  r->join(2);
  EXPECT_TRUE(r->begin(2).has_value());
  EXPECT_FALSE(r->begin(0).has_value());                  // 2 against 1
  EXPECT_TRUE(r->begin(1).has_value());
}

TEST(Async, AGradientThatIsNotFiniteIsDropped) {
  auto r = async_of(1);
  (void)r->begin(0);
  EXPECT_FALSE(r->judge(0, 0, false).accepted);
  EXPECT_EQ(r->counts()[0].dropped, 1);
}

TEST(Aggregation, RefusesWhatCannotBe) {
  EXPECT_THROW(sync_of(0), Error);
  auto r = async_of(1);
  EXPECT_THROW((void)r->judge(0, 0), Error);              // nothing has been begun
  (void)r->begin(0);
  EXPECT_THROW((void)r->begin(0), Error);
  EXPECT_THROW((void)r->judge(0, 1), Error);              // parameters of the future
}

}  // namespace
}  // namespace cohort
