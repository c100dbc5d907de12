// A run goes on from any checkpoint, whichever updater and however many ranks wrote it: with the bits of replicas all the way.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "support/training.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using testing::expect_same_bits;
using testing::numbers;
using testing::Options;
using testing::TemporaryFolder;
using testing::train_with;
using testing::with;

constexpr std::array kRanks = {1, 2, 3, 4};
constexpr std::array kStages = {0, 1, 2, 3};         // 0: replicas

/// `steps` in all, in a directory of its own.
Options run_of(const fs::path& directory, int stage, std::int64_t steps) {
  Options options = {{"train.directory", directory.string()}, {"train.max_steps", steps}, {"model.type", std::string("mlp")},
                     {"model.hidden", numbers({256, 3})}, {"data.train.reader", std::string("synthetic")},
                     {"data.train.samples", std::int64_t{96}}, {"data.train.shape", numbers({5, 4, 1})},
                     {"data.global_batch", std::int64_t{24}}, {"data.threads", std::int64_t{0}}, {"optimizer.type", std::string("adam")},
                     {"schedule.learning_rate", 0.01}, {"train.threads", std::int64_t{1}}, {"train.deterministic", true},
                     {"exchange.first_bucket_mib", 0.004}, {"exchange.bucket_mib", 0.02}};
  if (stage == 0) return options;
  return with(options, {{"train.updater", std::string("sharded")}, {"updater.stage", std::int64_t{stage}}});
}

TEST(Resume, AnyStageAndRanksGoOnFromAnyStageAndRanks) {
  const TemporaryFolder folder;
  const auto directory = [&](int stage, int ranks) { return folder.path() / (std::to_string(stage) + "-" + std::to_string(ranks)); };
  const auto middle = [&](int stage, int ranks) { return directory(stage, ranks) / "checkpoints" / "step-0000000002.h5"; };
  for (const int stage : kStages) {
    for (const int ranks : kRanks) train_with(ranks, run_of(directory(stage, ranks), stage, 2));
  }
  for (const int before : kRanks) {
    for (const int after : kRanks) {
      const auto go_on = [&](int first_stage, int stage) {
        return train_with(after, run_of(directory(first_stage, before), stage, 4), middle(first_stage, before).string()).checkpoint;
      };
      const fs::path replicas = folder.path() / "replicas.h5";
      fs::copy_file(fs::canonical(go_on(0, 0)), replicas, fs::copy_options::overwrite_existing);
      for (const int first_stage : kStages) {
        for (const int stage : kStages) {
          if ((first_stage + stage + before + after) % 2 != 0) continue;      // every pair of stages, and of ranks, with half of the others
          SCOPED_TRACE("stage " + std::to_string(first_stage) + " on " + std::to_string(before) + " ranks, then stage " + std::to_string(stage) +
                       " on " + std::to_string(after));
          const fs::path checkpoint = go_on(first_stage, stage);
          ASSERT_EQ(fs::read_symlink(checkpoint), "step-0000000004.h5");
          expect_same_bits(replicas, checkpoint);
        }
      }
    }
  }
}

/// A run of no epoch, then one of two from what it left.
TEST(Resume, ARunOfNoEpochsSavesWhatTrainingBeginsWith) {
  struct Way {
    int ranks;
    Options options;
    std::int64_t steps;                     ///< of two epochs
    bool same_bits;
  };
  const auto updater = [](const char* name) { return Options{{"train.updater", std::string(name)}}; };
  const Options free = {{"train.deterministic", false}};
  const std::vector<Way> ways = {
      {1, {}, 8, true},
      {3, {}, 8, true},
      {2, with(updater("sharded"), {{"updater.stage", std::int64_t{3}}}), 8, true},
      {2, updater("local_sgd"), 8, true},
      {2, updater("sync_with_backups"), 8, true},
      {2, with(updater("async"), free), 16, false},
      {3, with(with(updater("async"), free), {{"cluster.ps", std::int64_t{1}}}), 16, false},
      {1, with(with(updater("async"), free), {{"updater.schedule", std::string("replay")}, {"updater.replay.learners", std::int64_t{2}}}), 16, true},
  };
  for (const Way& way : ways) {
    SCOPED_TRACE(::testing::PrintToString(way.options.size()) + " options, ranks " + std::to_string(way.ranks));
    const TemporaryFolder folder;
    const auto run = [&](const char* name, std::int64_t epochs, const std::string& resume = {}) {
      return train_with(way.ranks, with(with(run_of(folder.path() / name, 0, 0), way.options),
                                        {{"train.epochs", epochs}, {"data.validation.reader", std::string("synthetic")},
                                         {"data.validation.samples", std::int64_t{24}}, {"data.validation.shape", numbers({5, 4, 1})}}), resume);
    };
    const auto start = run("start", 0);
    EXPECT_EQ(start.steps, 0);
    EXPECT_TRUE(start.validation.has_value());
    ASSERT_FALSE(start.checkpoint.empty());
    ASSERT_TRUE(fs::exists(start.checkpoint));
    EXPECT_EQ(fs::canonical(start.checkpoint).filename(), "step-0000000000.h5");
    const auto again = run("start", 0, "auto");
    EXPECT_EQ(again.steps, 0);
    const auto on = run("start", 2, "auto");
    EXPECT_EQ(on.steps, way.steps);
    if (way.same_bits) expect_same_bits(on.checkpoint, run("whole", 2).checkpoint);
  }
}

}  // namespace
}  // namespace cohort
