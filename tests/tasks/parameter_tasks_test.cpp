// Training with parameter tasks, against replicas that meet in collectives and against one process.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#include "cohort/comm/codec.hpp"
#include "cohort/params/optimizer.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_close;
using testing::numbers;
using testing::Options;
using testing::TemporaryFolder;
using testing::train_with;
using testing::with;

constexpr bool kBrief = COHORT_BRIEF;

/// Who is what; `ranks` of the job.
struct Place {
  std::string name;
  std::int64_t ps = 0;
  [[nodiscard]] int ranks(int workers) const { return workers + static_cast<int>(ps); }
};
const std::vector<Place> kPlaces = {{"colocated", 0}, {"one parameter task", 1}, {"two parameter tasks", 2}};

class ParameterTasks : public ::testing::Test {
 protected:
  [[nodiscard]] Options mlp(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.max_steps", std::int64_t{6}}, {"train.epochs", std::int64_t{3}},
                 {"model.type", std::string("mlp")}, {"model.hidden", numbers({40, 33})},
                 {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{96}},
                 {"data.train.shape", numbers({5, 4, 1})}, {"data.global_batch", std::int64_t{24}}, {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("sgd")}, {"schedule.learning_rate", 0.01}, {"train.threads", std::int64_t{1}},
                 {"exchange.dense_steps", std::int64_t{0}}},
                changes);
  }
  /// The same job by parameter tasks.
  [[nodiscard]] static Options tasks(const Options& base, const Place& place, const Options& changes = {}) {
    return with(with(base, {{"train.updater", std::string("sync_with_backups")}, {"cluster.ps", place.ps}, {"cluster.piece_mib", 0.002}}), changes);
  }
  /// Gradients of a round are averaged, and nobody begins the next before: what replicas do as well, told in other words.
  [[nodiscard]] static Options in_rounds() {
    return {{"train.updater", std::string("async")}, {"updater.bound", std::int64_t{0}}, {"updater.soft_sync", std::int64_t{1}}};
  }

  /// Parameters alone: a codec's error is large beside the optimizer's state after few steps.
  static void expect_close_values(const std::filesystem::path& a, const std::filesystem::path& b, double relative) {
    const auto x = testing::tensors_of(a), y = testing::tensors_of(b);
    for (const auto& [name, values] : x) {
      if (name.find("parameters") == std::string::npos) continue;
      double scale = 1e-3, difference = 0;
      for (std::size_t i = 0; i < values.size(); ++i) {
        scale = std::max(scale, std::fabs(static_cast<double>(values[i])));
        difference = std::max(difference, std::fabs(static_cast<double>(values[i]) - y.at(name)[i]));
      }
      EXPECT_LE(difference, std::max(relative * scale, relative > 1e-3 ? 0.02 : 0)) << name;
    }
  }

  TemporaryFolder folder_;
};

TEST_F(ParameterTasks, EveryOptimizerGivesWhatReplicasGive) {
  for (const std::string& name : Registry<OptimizerType>::instance().names()) {
    if (kBrief && name != "sgd" && name != "lamb") continue;
    const Options base = mlp({{"optimizer.type", name}, {"train.clip_norm", 0.5}});
    const TrainResult replicas = train_with(1, base);
    const bool norms = name == "lars" || name == "lamb";
    for (const Place& place : kPlaces) {
      for (const int workers : {1, 2, 3, 4}) {
        SCOPED_TRACE(name + ", " + place.name + ", " + std::to_string(workers) + " workers");
        const TrainResult result =
            train_with(place.ranks(workers), tasks(base, place, {{"cluster.blocks", std::string(norms ? "greedy" : "flat")}}));
        EXPECT_EQ(result.steps, replicas.steps);
        expect_close(replicas.checkpoint, result.checkpoint, 2e-6);
        EXPECT_NEAR(replicas.loss, result.loss, 1e-5 * std::fabs(replicas.loss));
      }
    }
  }
}

/// Updaters, optimizers, codecs, workers and places, all with all: each gives what one process gives, as near as its codec allows.
TEST_F(ParameterTasks, EveryCombination) {
  if (kBrief) GTEST_SKIP() << "the parts of it are tested one by one";
  for (const std::string& optimizer : Registry<OptimizerType>::instance().names()) {
    const bool norms = optimizer == "lars" || optimizer == "lamb";
    const Options base = mlp({{"optimizer.type", optimizer}, {"train.max_steps", std::int64_t{4}}, {"schedule.learning_rate", 0.002}});
    const TrainResult replicas = train_with(1, base);
    for (const std::string& codec : Registry<CodecType>::instance().names()) {
      const double accepted = codec == "fp32" ? 2e-6 : 5e-2;
      for (const Place& place : kPlaces) {
        for (const int workers : {1, 2, 3, 4}) {
          for (const Options& rules : {Options{}, in_rounds()}) {
            if (codec != "fp32" && rules.empty() == (workers % 2 == 0)) continue;      // half of what is rounded goes in rounds
            SCOPED_TRACE(optimizer + ", " + codec + ", " + place.name + ", " + std::to_string(workers) + " workers, " + (rules.empty() ? "sync" : "async"));
            const Options options = tasks(base, place, {{"exchange.codec", codec}, {"cluster.blocks", std::string(norms ? "greedy" : "flat")}});
            const TrainResult result = train_with(place.ranks(workers), with(options, rules));
            EXPECT_EQ(result.steps, replicas.steps);
            expect_close_values(replicas.checkpoint, result.checkpoint, accepted);
          }
        }
      }
    }
  }
}

TEST_F(ParameterTasks, RoundsOfAsynchronousWorkersAreSynchronous) {
  const Options base = mlp({{"optimizer.type", std::string("adam")}});
  const TrainResult replicas = train_with(1, base);
  for (const Place& place : kPlaces) {
    for (const int workers : {1, 2, 3, 4}) {
      SCOPED_TRACE(place.name + ", " + std::to_string(workers) + " workers");
      const TrainResult result = train_with(place.ranks(workers), with(tasks(base, place), in_rounds()));
      EXPECT_EQ(result.steps, replicas.steps);
      expect_close(replicas.checkpoint, result.checkpoint, 2e-6);
    }
  }
}

TEST_F(ParameterTasks, ShortBatchesAccumulationAndWarmUpAreThoseOfReplicas) {
  const Options changes[] = {{{"data.train.samples", std::int64_t{89}}},                                        // 89 = 3 · 24 + 17
                             {{"data.train.samples", std::int64_t{49}}},                                        // a last batch of one sample
                             {{"data.train.samples", std::int64_t{89}}, {"data.drop_last", true}},
                             {{"train.accumulate", std::int64_t{2}}, {"data.train.samples", std::int64_t{89}}},
                             {{"data.batch", std::int64_t{7}}, {"data.global_batch", std::int64_t{0}}, {"warmup.epochs", std::int64_t{1}},
                              {"train.max_steps", std::int64_t{0}}, {"train.epochs", std::int64_t{2}}}};
  for (const Options& change : changes) {
    const Options base = mlp(with({{"train.max_steps", std::int64_t{9}}}, change));
    const TrainResult replicas = train_with(3, base);
    for (const Place& place : kPlaces) {
      SCOPED_TRACE(change.begin()->first + ", " + place.name);
      const TrainResult result = train_with(place.ranks(3), tasks(base, place));
      EXPECT_EQ(result.steps, replicas.steps);
      expect_close(replicas.checkpoint, result.checkpoint, 2e-6);
    }
  }
}

/// Every block is one parameter task's, whatever way parameters are dealt out.
TEST_F(ParameterTasks, BlocksDoNotChangeTheResult) {
  const Options base = mlp({{"optimizer.type", std::string("adam")}});
  const TrainResult replicas = train_with(2, base);
  for (const char* blocks : {"flat", "round_robin", "greedy"}) {
    for (const std::int64_t ps : {1, 2, 3}) {
      SCOPED_TRACE(std::string(blocks) + " over " + std::to_string(ps));
      const TrainResult result = train_with(static_cast<int>(ps) + 2, tasks(base, {"", ps}, {{"cluster.blocks", std::string(blocks)}}));
      expect_close(replicas.checkpoint, result.checkpoint, 2e-6);
    }
  }
}

TEST_F(ParameterTasks, EveryCodecInBothDirections) {
  const Options base = mlp({{"train.max_steps", std::int64_t{8}}});
  const TrainResult replicas = train_with(1, base);
  const double tolerance[] = {2e-6, 2e-2, 6e-2};
  for (const std::string& name : Registry<CodecType>::instance().names()) {
    const double accepted = name == "fp32" ? tolerance[0] : name == "int8" ? tolerance[2] : tolerance[1];
    for (const Place& place : kPlaces) {
      SCOPED_TRACE(name + ", " + place.name);
      expect_close(replicas.checkpoint, train_with(place.ranks(2), tasks(base, place, {{"exchange.codec", name}})).checkpoint, accepted);
      expect_close(replicas.checkpoint, train_with(place.ranks(2), tasks(base, place, {{"cluster.pull_codec", name}})).checkpoint, accepted);
    }
  }
}

TEST_F(ParameterTasks, ResumesWithOtherWorkersAndOtherTasks) {
  for (const char* updater : {"sync_with_backups", "async"}) {
    const Options rules = std::string(updater) == "async" ? in_rounds() : Options{};
    const Options base = mlp({{"optimizer.type", std::string("adam")}, {"train.max_steps", std::int64_t{10}}});
    const TrainResult whole = train_with(1, base);
    for (const Place& before : kPlaces) {
      for (const Place& after : kPlaces) {
        if (kBrief && before.name == after.name) continue;
        SCOPED_TRACE(std::string(updater) + " from " + before.name + " to " + after.name);
        const TrainResult first = train_with(before.ranks(3), with(tasks(with(base, {{"train.max_steps", std::int64_t{5}}}), before), rules));
        const TrainResult second = train_with(after.ranks(2), with(tasks(base, after), rules), first.directory.string());
        EXPECT_EQ(second.steps, 10);
        expect_close(whole.checkpoint, second.checkpoint, 5e-6);
      }
    }
  }
}

/// What error feedback keeps back is in the checkpoint: the run goes on as if it had never stopped, and with other workers nothing is lost.
TEST_F(ParameterTasks, ResidualsGoAlong) {
  const Options base = mlp({{"exchange.codec", std::string("int8")}, {"train.deterministic", true}, {"train.max_steps", std::int64_t{10}}});
  const Options half = with(base, {{"train.max_steps", std::int64_t{5}}});
  for (const Place& place : kPlaces) {
    SCOPED_TRACE(place.name);
    const TrainResult whole = train_with(place.ranks(3), tasks(base, place)), first = train_with(place.ranks(3), tasks(half, place));
    const std::filesystem::path copy = folder_.path() / ("copy-" + place.name);
    std::filesystem::copy(first.directory, copy, std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
    testing::expect_same_bits(whole.checkpoint, train_with(place.ranks(3), tasks(base, place), first.directory.string()).checkpoint);
    expect_close(whole.checkpoint, train_with(place.ranks(2), tasks(base, place), copy.string()).checkpoint, 2e-2);
  }
}

/// Running statistics are averages over the workers, and frozen or trained, every tensor of a checkpoint is there.
TEST_F(ParameterTasks, ACheckpointOfReplicasGoesOnWithTasksAndBack) {
  Options base = mlp({{"model.type", std::string("resnet")}, {"model.depth", std::int64_t{8}}, {"data.train.shape", numbers({16, 16, 1})},
                      {"data.global_batch", std::int64_t{6}}, {"train.max_steps", std::int64_t{2}}});
  base.erase("model.hidden");
  const Options more = with(base, {{"train.max_steps", std::int64_t{4}}}), last = with(base, {{"train.max_steps", std::int64_t{5}}});
  const auto go_on = [&](int ranks, const Options& options, const std::filesystem::path& from, const std::string& name) {
    const std::filesystem::path checkpoint = folder_.path() / name / "checkpoints" / "step-0000000001.h5";   // a run of its own
    std::filesystem::create_directories(checkpoint.parent_path());
    std::filesystem::copy_file(std::filesystem::canonical(from), checkpoint);
    return train_with(ranks, options, checkpoint.string()).checkpoint;
  };
  const std::filesystem::path start = train_with(2, base).checkpoint;
  const std::filesystem::path whole = go_on(2, more, start, "whole"), by_tasks = go_on(3, tasks(more, kPlaces[1]), start, "tasks");
  expect_close(whole, by_tasks, 1e-4);
  EXPECT_EQ(testing::tensors_of(whole).size(), testing::tensors_of(by_tasks).size());
  expect_close(go_on(2, last, whole, "whole_on"), go_on(2, last, by_tasks, "tasks_on"), 1e-3);
}

TEST_F(ParameterTasks, ValidationIsThatOfReplicas) {
  const Options base = mlp({{"data.validation.reader", std::string("synthetic")}, {"data.validation.samples", std::int64_t{37}},
                            {"data.validation.shape", numbers({5, 4, 1})}});
  const TrainResult replicas = train_with(2, base);
  for (const Place& place : kPlaces) {
    const TrainResult result = train_with(place.ranks(3), tasks(base, place));
    ASSERT_TRUE(result.validation);
    EXPECT_EQ(result.validation->samples, 37);
    EXPECT_NEAR(result.validation->loss, replicas.validation->loss, 1e-5);
    EXPECT_NEAR(result.validation->metrics[0].second, replicas.validation->metrics[0].second, 1e-6);
  }
}

TEST_F(ParameterTasks, DeterministicSumsHaveTheSameBitsAgain) {
  const Options base = mlp({{"train.deterministic", true}, {"optimizer.type", std::string("adam")}});
  for (const Place& place : kPlaces) {
    const TrainResult first = train_with(place.ranks(4), tasks(base, place)), second = train_with(place.ranks(4), tasks(base, place));
    testing::expect_same_bits(first.checkpoint, second.checkpoint);
  }
}

TEST_F(ParameterTasks, RefusesWhatItCannotDo) {
  const auto refuses = [&](int ranks, const Options& changes, const std::string& reason) {
    try {
      train_with(ranks, tasks(mlp(), {"", 0}, changes));
      ADD_FAILURE() << "accepted, where '" << reason << "' was due";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  };
  refuses(3, {{"updater.replicas_to_aggregate", std::int64_t{2}}}, "backups need dedicated parameter tasks");
  refuses(3, {{"cluster.survive", std::string("on")}}, "needs dedicated parameter tasks");
  refuses(3, {{"cluster.replace", std::int64_t{1}}}, "workers can be replaced only where the job survives their loss");
  refuses(3, {{"cluster.ps", std::int64_t{1}}, {"cluster.replace", std::int64_t{1}}}, "only mpirun starts processes for a job at work");
  refuses(3, {{"cluster.ps", std::int64_t{1}}, {"cluster.worker", std::int64_t{4}}}, "1 parameter tasks and 4 workers, but the job has 3 ranks");
  refuses(2, {{"cluster.ps", std::int64_t{2}}}, "but the job has 2 ranks");
  refuses(2, {{"train.updater", std::string("sync_replicas")}, {"cluster.ps", std::int64_t{1}}}, "has no parameter tasks");
  refuses(2, {{"optimizer.type", std::string("lamb")}}, "equal blocks cut");
  refuses(2, {{"train.deterministic", true}, {"train.updater", std::string("async")}}, "the order in which gradients arrive");
}

}  // namespace
}  // namespace cohort
