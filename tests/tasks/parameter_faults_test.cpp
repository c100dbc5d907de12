// Parameter tasks with workers that are slow, late, silent or dead; ranks are threads, faults are injected.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cohort/faults/fault_injection.hpp"
#include "support/patience.hpp"
#include "support/training.hpp"
#include "tasks/farewell.hpp"
#include "tasks/messages.hpp"

namespace cohort {
namespace {

using testing::numbers;
using testing::Options;
using testing::TemporaryFolder;
using testing::with;

constexpr bool kBrief = COHORT_BRIEF;   // a sanitizer's build: fewer runs

class ParameterFaults : public ::testing::Test {
 protected:
  [[nodiscard]] Options job(const char* updater, const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.max_steps", std::int64_t{20}}, {"train.epochs", std::int64_t{50}},
                 {"train.updater", std::string(updater)}, {"cluster.ps", std::int64_t{1}}, {"cluster.piece_mib", 0.002},
                 {"model.type", std::string("mlp")}, {"model.hidden", numbers({40})},
                 {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{96}},
                 {"data.train.shape", numbers({5, 4, 1})}, {"data.global_batch", std::int64_t{24}}, {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("sgd")}, {"schedule.learning_rate", 0.01}, {"train.threads", std::int64_t{1}}},
                changes);
  }
  /// So that every worker has its turn at every step, if that is to be its last.
  [[nodiscard]] static Options in_turns(const char* updater) {
    return std::string(updater) == "async" ? Options{{"updater.bound", std::int64_t{1}}} : Options{};
  }
  /// Rank 0's result.
  static TrainResult train_with(int ranks, const Options& options, const std::vector<Fault>& faults) {
    TrainResult result;
    const auto plan = std::make_shared<const FaultPlan>(faults, ranks);
    run_as_threads(ranks, [&](Communicator& communicator) {
      inject(communicator, plan);
      Section config = testing::section_of(options);
      const TrainResult mine = train(communicator, config, {});
      if (communicator.rank() == 0) result = mine;
    }, {.timeout = testing::kHung, .log = LogLevel::error});
    return result;
  }

  TemporaryFolder folder_;
};

TEST_F(ParameterFaults, EveryModeGoesOnWithoutAWorkerThatDies) {
  for (const char* updater : {"sync_with_backups", "async"}) {
    for (const std::int64_t ps : {1, 2}) {
      for (const std::int64_t step : kBrief ? std::vector<std::int64_t>{3} : std::vector<std::int64_t>{0, 3, 11}) {
        for (const int dead : {0, 2}) {
          SCOPED_TRACE(std::string(updater) + ", " + std::to_string(ps) + " tasks, worker " + std::to_string(dead) + " dies at step " + std::to_string(step));
          const int ranks = static_cast<int>(ps) + 3;
          const Fault kill{.kind = Fault::Kind::kill, .ranks = {ps + dead}, .from_step = step};
          const TrainResult result = train_with(ranks, job(updater, with(in_turns(updater), {{"cluster.ps", ps}})), {kill});
          EXPECT_EQ(result.steps, 20);
          ASSERT_EQ(result.lost.size(), 1u);
          EXPECT_EQ(result.lost[0].rank, static_cast<int>(ps) + dead);
          EXPECT_TRUE(std::filesystem::exists(result.checkpoint));
        }
      }
    }
  }
}

TEST_F(ParameterFaults, OneWorkerIsEnough) {
  for (const char* updater : {"sync_with_backups", "async"}) {
    std::vector<Fault> faults;
    for (const std::int64_t rank : {1, 2, 4}) faults.push_back({.kind = Fault::Kind::kill, .ranks = {rank}, .from_step = 2 * rank});
    const TrainResult result = train_with(5, job(updater, in_turns(updater)), faults);
    EXPECT_EQ(result.steps, 20);
    EXPECT_EQ(result.lost.size(), 3u);
  }
}

TEST_F(ParameterFaults, NoWorkerIsTooFew) {
  try {
    train_with(3, job("async"), {{.kind = Fault::Kind::kill, .ranks = {1}, .from_step = 3}, {.kind = Fault::Kind::kill, .ranks = {2}, .from_step = 5}});
    ADD_FAILURE() << "the run ended as if nothing had happened";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no worker is left"), std::string::npos) << error.what();
  }
}

TEST_F(ParameterFaults, AParameterTaskThatDiesEndsTheJobAndTheCheckpointIsGood) {
  for (const char* updater : {"sync_with_backups", "async"}) {
    // A save waits for the last one, so that by then some are complete.
    const Options options = job(updater, {{"cluster.ps", std::int64_t{2}}, {"checkpoint.every_steps", std::int64_t{4}}, {"train.max_steps", std::int64_t{60}},
                                          {"train.directory", (folder_.path() / updater).string()}});
    try {
      train_with(5, options, {{.kind = Fault::Kind::kill, .ranks = {1}, .from_step = 40}});
      ADD_FAILURE() << "the run ended as if nothing had happened";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("killed by fault injection"), std::string::npos) << error.what();
    }
    const TrainResult again = testing::train_with(3, with(options, {{"cluster.ps", std::int64_t{1}}}), (folder_.path() / updater).string());
    EXPECT_EQ(again.steps, 60);
  }
}

TEST_F(ParameterFaults, AWorkerWhoseMessagesDoNotFitIsLeftOut) {
  for (const char* updater : {"sync_with_backups", "async"}) {
    for (const int tasks : {1, 2}) {                       // the token task's own, or one that has to tell it
      Options options = in_turns(updater);
      options["cluster.ps"] = std::int64_t{tasks};
      const Fault twice{.kind = Fault::Kind::duplicate, .ranks = {tasks + 1}, .peers = {tasks - 1}, .from_step = 4};
      const TrainResult result = train_with(tasks + 3, job(updater, options), {twice});
      EXPECT_EQ(result.steps, 20);
      ASSERT_EQ(result.lost.size(), 1u);
      EXPECT_EQ(result.lost[0].rank, tasks + 1);
      const char* const why = tasks == 1 ? "sent" : "it sent parameter task 1 what does not fit";      // nobody has waited for it
      EXPECT_NE(result.lost[0].reason.find(why), std::string::npos) << result.lost[0].reason;
    }
  }
}

/// The run is over, and the others say so to each other without those that are lost before, meanwhile, or after they had their say.
TEST(Farewell, WaitsForNoRankThatIsLost) {
  for (const int lost : {-1, 1, 2, 3}) {
    for (const bool speaks : {false, true}) {
      SCOPED_TRACE("rank " + std::to_string(lost) + (speaks ? " after it has spoken" : ""));
      std::vector<std::int64_t> samples;
      std::array<std::string, 4> heard;
      run_as_threads(4, [&](Communicator& world) {
        const int rank = world.rank();
        world.membership()->allow_losses({1, 2, 3}, 1);
        Farewell farewell(world);
        RankSummary mine;
        mine.samples = 10 + rank;
        if (rank == lost && !speaks) return;
        std::jthread notices([&, membership = world.membership()] {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
          if (lost > 0) membership->lose(lost, "it is a test");
        });
        for (const RankSummary& each : farewell.gather(mine)) samples.push_back(each.samples);
        if (rank == lost) return;
        std::string text = rank == 0 ? std::string("all is well\0", 12) : "";
        farewell.tell(text);
        heard[static_cast<std::size_t>(rank)] = text;
      }, {.timeout = testing::kHung, .log = LogLevel::error});
      std::vector<std::int64_t> expected;
      for (const int rank : {0, 1, 2, 3}) {
        if (rank != lost || speaks) expected.push_back(10 + rank);
        EXPECT_EQ(heard[static_cast<std::size_t>(rank)].size(), rank == lost ? 0u : 12u);
      }
      EXPECT_EQ(samples, expected);
    }
  }
}

/// With backups nobody waits for a slow worker, whose gradients are dropped; none is lost.
TEST_F(ParameterFaults, ASlowWorkerIsABackup) {
  const Fault slow{.kind = Fault::Kind::slow, .ranks = {4}, .seconds = 0.05};
  const Options options = job("sync_with_backups", {{"updater.replicas_to_aggregate", std::int64_t{3}}, {"train.max_steps", std::int64_t{60}}});
  const TrainResult result = train_with(5, options, {slow});
  EXPECT_EQ(result.steps, 60);
  EXPECT_TRUE(result.lost.empty());
  ASSERT_EQ(result.workers.size(), 4u);
  EXPECT_LT(result.workers[3].applied, result.workers[0].applied);
  EXPECT_EQ(result.workers[0].applied + result.workers[1].applied + result.workers[2].applied + result.workers[3].applied, 180);
}

/// All parameters of an update average the same workers' gradients, over any number of parameter tasks.
TEST_F(ParameterFaults, OneUpdateIsOfOneSetOfWorkers) {
  const Options base = job("sync_with_backups", {{"train.max_steps", std::int64_t{1}}, {"updater.replicas_to_aggregate", std::int64_t{1}},
                                                 {"data.shuffle", false}, {"data.global_batch", std::int64_t{24}}});
  std::vector<std::map<std::string, std::vector<float>>> candidates;       // the update that each worker alone would make
  for (std::int64_t worker = 0; worker < 3; ++worker) {
    std::vector<Fault> faults;
    for (std::int64_t other = 0; other < 3; ++other) {
      if (other != worker) faults.push_back({.kind = Fault::Kind::slow, .ranks = {1 + other}, .seconds = 0.3});
    }
    candidates.push_back(testing::tensors_of(train_with(4, base, faults).checkpoint));
  }
  ASSERT_NE(candidates[0], candidates[1]);
  for (std::uint64_t seed = 1; seed <= (kBrief ? 4 : 12); ++seed) {
    const Fault jitter{.kind = Fault::Kind::delay, .ranks = {}, .peers = {0, 1}, .probability = 0.5, .seconds = 0.002, .seed = seed};
    const auto found = testing::tensors_of(train_with(5, with(base, {{"cluster.ps", std::int64_t{2}}}), {jitter}).checkpoint);
    const auto close = [&](const auto& candidate) {
      for (const auto& [name, values] : found) {
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (std::fabs(values[i] - candidate.at(name)[i]) > 1e-6) return false;
        }
      }
      return true;
    };
    EXPECT_TRUE(std::ranges::any_of(candidates, close)) << "seed " << seed << ": a mixture";
  }
}

/// Delays on all lines at random: every run ends, with the right number of updates.
TEST_F(ParameterFaults, RandomDelaysNeverStopARun) {
  const char* wanted = std::getenv("COHORT_TEST_RUNS");
  const int runs = wanted != nullptr ? std::atoi(wanted) : 20;
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  for (int run = 0; run < runs; ++run) {
    const std::int64_t ps = 1 + static_cast<std::int64_t>(random() % 2);
    const int workers = 1 + static_cast<int>(random() % 4);
    const bool sync = random() % 2 == 0;
    SCOPED_TRACE("seed " + std::to_string(seed) + ", run " + std::to_string(run) + (sync ? ", sync, " : ", async, ") + std::to_string(ps) + " tasks, " +
                 std::to_string(workers) + " workers");
    Options options = job(sync ? "sync_with_backups" : "async", {{"cluster.ps", ps}, {"train.max_steps", std::int64_t{12}}});
    if (sync) options["updater.replicas_to_aggregate"] = static_cast<std::int64_t>(1 + random() % static_cast<std::uint64_t>(workers + 1));
    else options["updater.bound"] = static_cast<std::int64_t>(random() % 4) - 1;
    std::vector<Fault> faults = {{.kind = Fault::Kind::delay, .probability = 0.3, .seconds = 1e-4 * static_cast<double>(1 + random() % 20), .seed = random()},
                                 {.kind = Fault::Kind::slow, .probability = 0.2, .seconds = 2e-3, .seed = random()}};
    try {
      EXPECT_EQ(train_with(static_cast<int>(ps) + workers, options, faults).steps, 12);
    } catch (const Error& error) {
      FAIL() << error.what();
    }
  }
}

}  // namespace
}  // namespace cohort
