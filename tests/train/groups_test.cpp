// A job whose ranks are split into groups that train side by side: each group is a job of its own, bit by bit, and writes
// what such a job writes.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <numeric>
#include <regex>

#include "cohort/train/generate.hpp"
#include "run/phases.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_same_bits;
using testing::numbers;
using testing::Options;
using testing::TemporaryFolder;
using testing::with;

/// Which group each rank is in, and on which machine it pretends to be.
struct Division {
  std::vector<int> groups, nodes;
  [[nodiscard]] int count() const { return *std::ranges::max_element(groups) + 1; }
  [[nodiscard]] std::vector<int> nodes_of(int group) const {
    std::vector<int> labels;
    for (std::size_t rank = 0; rank < groups.size(); ++rank) {
      if (groups[rank] == group) labels.push_back(nodes[rank]);
    }
    return labels;
  }
};

std::vector<int> apart(std::size_t ranks) {
  std::vector<int> labels(ranks);
  std::iota(labels.begin(), labels.end(), 0);
  return labels;
}

/// A file's lines without what a clock has measured.
std::string timeless(const std::filesystem::path& path) {
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::string measured =
      R"re("(time|samples_per_second|updates_per_second|gflops_per_second|step_seconds_p50|workers/[0-9]+/waited)":[^,}\n]*,?)re";
  return std::regex_replace(text, std::regex(measured), "");
}

class Groups : public ::testing::Test {
 protected:
  /// Of one group: a seed, a width and a directory of its own.
  [[nodiscard]] Options options(int group, const std::string& where, const Options& changes) const {
    return with({{"train.directory", (folder_.path() / (where + std::to_string(group))).string()},
                 {"train.seed", std::int64_t{1 + group}},
                 {"train.epochs", std::int64_t{3}},
                 {"train.log_every", std::int64_t{1}},
                 {"train.threads", std::int64_t{1}},
                 {"train.deterministic", true},
                 {"model.type", std::string("mlp")},
                 {"model.hidden", numbers({64, 33 + group})},
                 {"data.train.reader", std::string("synthetic")},
                 {"data.train.samples", std::int64_t{44}},
                 {"data.train.shape", numbers({6, 6, 1})},
                 {"data.validation.reader", std::string("synthetic")},
                 {"data.validation.samples", std::int64_t{11}},
                 {"data.validation.shape", numbers({6, 6, 1})},
                 {"data.batch", std::int64_t{4}},
                 {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("adam")},
                 {"schedule.learning_rate", 0.01},
                 {"exchange.first_bucket_mib", 0.004},
                 {"exchange.bucket_mib", 0.01},
                 {"trace.record", true}},
                changes);
  }

  /// What each group's root got.
  [[nodiscard]] std::vector<TrainResult> side_by_side(const Division& division, const Options& changes) const {
    std::vector<TrainResult> results(static_cast<std::size_t>(division.count()));
    run_as_threads(static_cast<int>(division.groups.size()), [&](Communicator& world) {
      const int group = division.groups[static_cast<std::size_t>(world.rank())];
      Communicator mine = world.split(group);
      EXPECT_EQ(mine.is_root(), mine.rank() == 0);
      Section config = testing::section_of(options(group, "group-", changes));
      const TrainResult result = train(mine, config);
      if (mine.is_root()) results[static_cast<std::size_t>(group)] = result;
      Section again = testing::section_of(options(group, "group-", changes));
      const Evaluation evaluation = evaluate(mine, again, result.directory.string());
      EXPECT_EQ(evaluation.samples, 11);
      if (mine.is_root()) {
        EXPECT_NEAR(evaluation.loss, result.validation->loss, 1e-5 * result.validation->loss);
      }
    }, {.nodes = division.nodes, .timeout = testing::kHung});
    return results;
  }

  void expect_jobs_of_their_own(const Division& division, const Options& changes) const {
    const std::vector<TrainResult> together = side_by_side(division, changes);
    for (int group = 0; group < division.count(); ++group) {
      SCOPED_TRACE("group " + std::to_string(group));
      const std::vector<int> nodes = division.nodes_of(group);
      const TrainResult alone =
          testing::train_with(static_cast<int>(nodes.size()), options(group, "alone-", changes), {}, nodes);
      const TrainResult& mine = together[static_cast<std::size_t>(group)];
      EXPECT_EQ(mine.steps, alone.steps);
      EXPECT_EQ(mine.loss, alone.loss);
      ASSERT_FALSE(mine.checkpoint.empty());
      expect_same_bits(mine.checkpoint, alone.checkpoint);
      const std::string metrics = timeless(alone.directory / "metrics.jsonl");
      EXPECT_GT(metrics.size(), 300u);
      EXPECT_EQ(timeless(mine.directory / "metrics.jsonl"), metrics);
      for (const char* file : {"configuration.toml", "summary.json", "trace.json", "checkpoints/best"}) {
        EXPECT_TRUE(std::filesystem::exists(mine.directory / file)) << file;
      }
      for (const auto& entry : std::filesystem::recursive_directory_iterator(
               alone.directory)) {  // the same files, but for the clock in their names
        const auto name = std::filesystem::relative(entry.path(), alone.directory);
        if (name.string().find("tfevents") != std::string::npos) continue;
        EXPECT_TRUE(std::filesystem::exists(mine.directory / name)) << name;
      }
    }
  }

  TemporaryFolder folder_;
};

constexpr bool kBrief = COHORT_BRIEF;             // under sanitizers: one division for each updater

const std::vector<Division> kDivisions = {
    {{0, 0, 1, 1}, {0, 0, 0, 0}}, {{0, 1, 1, 1}, {0, 0, 0, 0}}, {{1, 0, 1, 0}, {0, 0, 1, 1}}};

TEST_F(Groups, AreJobsOfTheirOwnWithEveryUpdater) {
  for (const std::string& name : updater_names()) {
    const bool waits = name != "async";                // the order of its updates is nobody's choice
    for (std::size_t i = 0; i < kDivisions.size(); ++i) {
      const Division& division = kDivisions[i];
      if (!waits && division.groups[0] != division.groups[1]) continue;
      if (kBrief && waits && i != name.size() % kDivisions.size()) continue;
      SCOPED_TRACE(name);
      const Options updater = {{"train.updater", name}, {"train.deterministic", waits}};
      if (waits) expect_jobs_of_their_own(division, updater);
      else (void)side_by_side(division, updater);
    }
  }
}

TEST_F(Groups, RoundAtRandomAsAJobOfTheirOwnDoes) {
  const Options coded = {{"exchange.codec", std::string("int8")},
                         {"exchange.int8.rounding", std::string("stochastic")},
                         {"exchange.dense_steps", std::int64_t{0}},
                         {"exchange.small_elements", std::int64_t{64}},
                         {"exchange.algorithm", std::string("direct")}};
  const Division machines{{0, 0, 1, 1}, apart(4)};
  for (const Options& updater :
       {Options{}, Options{{"train.updater", std::string("sharded")}, {"updater.stage", std::int64_t{3}}},
        Options{{"train.updater", std::string("sync_with_backups")}}}) {
    expect_jobs_of_their_own(machines, with(coded, updater));
  }
  // Two ranks of each group on each of two machines keep one copy of the parameters there, and sum their shares between the
  // machines.
  const Division shared{{0, 0, 1, 1, 0, 0, 1, 1}, {0, 0, 0, 0, 1, 1, 1, 1}};
  Options between = with(coded, {{"train.deterministic", false},
                                 {"exchange.network.latency_us", 5.0},
                                 {"exchange.network.bandwidth_gbs", 12.5},
                                 {"exchange.network.node_latency_us", 0.5},
                                 {"exchange.network.node_bandwidth_gbs", 10.0},
                                 {"exchange.network.sum_gbs", 20.0}});
  between.erase("exchange.algorithm");
  expect_jobs_of_their_own(shared, between);
}

TEST_F(Groups, WarmUpWithRanksThatFollow) {
  for (const Division& division : {Division{{0, 0, 1, 1}, {0, 0, 0, 0}}, Division{{0, 1, 1, 1}, {0, 0, 0, 0}}}) {
    expect_jobs_of_their_own(division, {{"warmup.epochs", std::int64_t{1}}});
  }
}

TEST_F(Groups, ReplayBesideOthers) {
  expect_jobs_of_their_own({{0, 1, 2}, {0, 0, 0}},
                           {{"train.updater", std::string("async")}, {"updater.schedule", std::string("replay")}});
}

TEST_F(Groups, GoOnFromTheirOwnCheckpoints) {
  const Division division{{0, 0, 1, 1}, {0, 0, 0, 0}};
  const std::vector<TrainResult> whole = side_by_side(division, {});
  const std::vector<TrainResult> half = side_by_side(division, {{"train.max_steps", std::int64_t{5}}});
  run_as_threads(4, [&](Communicator& world) {
    const int group = division.groups[static_cast<std::size_t>(world.rank())];
    Communicator mine = world.split(group);
    Section config = testing::section_of(options(group, "group-", {}));
    const TrainResult rest = train(mine, config, half[static_cast<std::size_t>(group)].directory.string());
    if (mine.is_root()) expect_same_bits(whole[static_cast<std::size_t>(group)].checkpoint, rest.checkpoint);
  });
}

/// Each group's root tells people of its own run, and nobody else does.
TEST_F(Groups, TellOfTheirOwnRuns) {
  ::testing::internal::CaptureStdout();
  const std::vector<TrainResult> results = side_by_side({{0, 0, 1, 1}, {0, 0, 0, 0}}, {});
  const std::string out = ::testing::internal::GetCapturedStdout();
  for (const TrainResult& result : results) {
    const std::string line = "writing to " + result.directory.string();
    const std::size_t at = out.find(line);
    ASSERT_NE(at, std::string::npos) << line;
    EXPECT_EQ(out.find(line, at + 1), std::string::npos) << line;
  }
}

TEST_F(Groups, WriteTextsWithTheirOwnModels) {
  std::ofstream(folder_.file("text")) << std::string(200, 'a') + "bcd";
  const Options gpt = {{"train.directory", folder_.file("gpt")},
                       {"train.max_steps", std::int64_t{2}},
                       {"model.type", std::string("gpt")},
                       {"model.width", std::int64_t{8}},
                       {"model.layers", std::int64_t{1}},
                       {"data.train.reader", std::string("text")},
                       {"data.train.files", OptionList{{folder_.file("text"), "test"}}},
                       {"data.train.context", std::int64_t{8}},
                       {"data.batch", std::int64_t{2}}};
  const TrainResult trained = testing::train_with(1, gpt);
  std::array<std::string, 4> texts;
  run_as_threads(4, [&](Communicator& world) {
    Communicator mine = world.split(world.rank() / 2);
    Section config = testing::section_of(with(gpt, {{"generate.length", std::int64_t{5}}}));
    texts[static_cast<std::size_t>(world.rank())] = generate(mine, config, trained.directory.string());
  });
  EXPECT_FALSE(texts[0].empty());
  EXPECT_EQ(texts[0], texts[2]);
  EXPECT_TRUE(texts[1].empty() && texts[3].empty());
}

/// Losing workers is an agreement of the whole job: a part of it cannot promise that.
TEST_F(Groups, APartOfTheJobDoesNotSurviveLosses) {
  for (const Options& option :
       {Options{{"cluster.survive", std::string("on")}}, Options{{"cluster.replace", std::int64_t{1}}}}) {
    std::mutex mutex;
    std::vector<std::string> errors;
    run_as_threads(4, [&](Communicator& world) {
      Communicator mine = world.split(world.rank() / 2);
      Section config = testing::section_of(options(
          world.rank() / 2, "group-",
          with({{"train.updater", std::string("async")}, {"train.deterministic", false}, {"cluster.ps", std::int64_t{1}}},
               option)));
      try {
        (void)train(mine, config);
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        errors.emplace_back(error.what());
      }
    });
    EXPECT_EQ(errors.size(), 4u);
    for (const std::string& error : errors) EXPECT_NE(error.find("cluster."), std::string::npos) << error;
  }
  const std::vector<TrainResult> results = side_by_side(
      {{0, 0, 1, 1}, {0, 0, 0, 0}},
      {{"train.updater", std::string("async")}, {"train.deterministic", false}, {"cluster.ps", std::int64_t{1}}});
  for (const TrainResult& result : results) EXPECT_GT(result.steps, 0);
}

}  // namespace
}  // namespace cohort
