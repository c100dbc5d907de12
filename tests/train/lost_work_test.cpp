// What a run has made stays: through a validation that fails, through divergence, and when somebody goes on from an older
// checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using namespace cohort::testing;

/// Points of a line. `broken`: every read fails. `nan`: no sample is a number.
class LineReader final : public Reader {
 public:
  explicit LineReader(Section& section) {
    section.bind("slope", slope_, "of the line");
    section.bind("nan", nan_, "samples are not numbers");
    section.bind("broken", broken_, "reads fail");
    section.bind("poison", poison_, "this sample is not a number");
  }
  std::int64_t size() const override { return 24; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    check(!broken_, Code::data_loss, "the data cannot be read");
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto x = static_cast<float>(samples[i]) / 24.f;
      const bool bad = nan_ || static_cast<std::int64_t>(samples[i]) == poison_;
      static_cast<float*>(buffers[0])[i] = bad ? std::numeric_limits<float>::quiet_NaN() : x;
      static_cast<float*>(buffers[1])[i] = static_cast<float>(slope_) * x;
    }
  }

 private:
  double slope_ = 2;
  bool nan_ = false, broken_ = false;
  std::int64_t poison_ = -1;
  std::vector<Field> fields_{{"x", DType::float32, {1}}, {"y", DType::float32, {1}}};
};
const Registered<ReaderType> reader{"lost_work", {[](Section& s) { return std::make_unique<LineReader>(s); }}};
const Registered<ModelType> model{
    "lost_work", {[](Section&) -> ModelBuilder {
      return [](Graph&, const Batch& b) -> Model {
        return {.loss = mean_squared_error(nn::dense(nn::dense(b["x"], 3, "hidden"), 1, "line"), b["y"])};
      };
    }}};

/// Ways to train that save and validate by code of their own.
struct Way {
  std::string name;
  int ranks = 1;
  Options options;
  std::vector<int> nodes{};
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }
std::string name_of(const ::testing::TestParamInfo<Way>& info) { return info.param.name; }

std::vector<Way> ways() {
  const Options steps = {{"train.updater", std::string("sync_with_backups")}};
  const Options int8 = {{"exchange.codec", std::string("int8")}, {"exchange.small_codec", std::string("int8")},
                        {"exchange.dense_steps", std::int64_t{0}}};
  return {{"OneReplica", 1, {}},
          {"TwoReplicas", 2, {}},
          {"Sharded", 3, {{"train.updater", std::string("sharded")}, {"updater.stage", std::int64_t{3}}}},
          {"Followers", 3, {{"warmup.epochs", std::int64_t{50}}}},
          {"Residuals", 2, with(int8, {{"exchange.algorithm", std::string("direct")}}), {0, 1}},
          {"Tasks", 3, with(steps, {{"cluster.ps", std::int64_t{1}}})},
          {"TwoTasks", 3, with(steps, {{"cluster.ps", std::int64_t{2}}})},
          {"TasksEverywhere", 2, steps},
          {"TasksWithResiduals", 3, with(with(steps, int8), {{"cluster.ps", std::int64_t{1}}})},
          {"Replay", 1,
           with(steps, {{"updater.schedule", std::string("replay")}, {"updater.replay.learners", std::int64_t{2}}})}};
}

class LostWork : public ::testing::TestWithParam<Way> {
 protected:
  /// Three steps per epoch.
  [[nodiscard]] Options options(const std::string& name, const Options& changes = {}) const {
    const Options base = {{"train.directory", folder_.file(name)},
                          {"model.type", std::string("lost_work")},
                          {"data.train.reader", std::string("lost_work")},
                          {"data.validation.reader", std::string("lost_work")},
                          {"data.global_batch", std::int64_t{8}},
                          {"data.threads", std::int64_t{0}},
                          {"train.threads", std::int64_t{1}},
                          {"train.deterministic", true},
                          {"schedule.learning_rate", 0.1},
                          {"train.epochs", std::int64_t{3}}};
    return with(with(base, GetParam().options), changes);
  }
  TrainResult run(const std::string& name, const Options& changes = {}, const std::string& resume = {}) const {
    return train_with(GetParam().ranks, options(name, changes), resume, GetParam().nodes);
  }
  [[nodiscard]] fs::path checkpoints(const std::string& name) const { return folder_.path() / name / "checkpoints"; }
  [[nodiscard]] std::set<std::string> steps(const fs::path& folder) const {
    std::set<std::string> names;
    for (const fs::path& file : list_checkpoints(folder)) names.insert(file.filename().string());
    return names;
  }
  [[nodiscard]] static std::string best(const fs::path& folder) {
    return fs::is_symlink(folder / "best") ? fs::read_symlink(folder / "best").string() : "";
  }
  /// What `best` means for each of those who keep residuals.
  [[nodiscard]] static std::set<std::string> best_residuals(const fs::path& folder) {
    std::set<std::string> names;
    std::error_code none;
    for (const auto& rank : fs::directory_iterator(folder / "residuals", none)) names.insert(best(rank.path()));
    return names;
  }

  TemporaryFolder folder_;
};

std::string step(int n) { return "step-000000000" + std::to_string(n) + ".h5"; }

TEST_P(LostWork, AnEpochIsSavedBeforeAValidationThatFails) {
  run("whole");
  const std::string error = error_of([&] { run("broken", {{"data.validation.broken", true}}); });
  EXPECT_THAT(error, AnyOf(HasSubstr("the data cannot be read"), HasSubstr("no worker is left")));
  EXPECT_EQ(steps(checkpoints("broken")), std::set{step(3)});
  EXPECT_EQ(best(checkpoints("broken")), "");
  // Going on begins with the validation that is due, so that it also knows what was the best.
  const TrainResult after = run("broken", {}, folder_.file("broken"));
  EXPECT_EQ(after.steps, 9);
  EXPECT_EQ(best(checkpoints("broken")), best(checkpoints("whole")));
  expect_same_bits(checkpoints("broken") / "latest", checkpoints("whole") / "latest");
  const auto lines = read_bytes(folder_.file("broken/metrics.jsonl"));
  EXPECT_THAT(lines, HasSubstr("{\"step\":3,")) << lines;
  std::size_t validations = 0;
  for (std::size_t at = lines.find("validation/loss"); at != std::string::npos; at = lines.find("validation/loss", at + 1))
    ++validations;
  EXPECT_EQ(validations, 3u) << lines;
}

TEST_P(LostWork, ARunThatEndedBeforeItsLastValidationMakesItWhenItGoesOn) {
  EXPECT_NE(error_of([&] { run("run", {{"data.validation.broken", true}, {"train.epochs", std::int64_t{1}}}); }), "");
  const TrainResult after = run("run", {{"train.epochs", std::int64_t{1}}}, folder_.file("run"));
  EXPECT_EQ(after.steps, 3);
  EXPECT_TRUE(after.validation.has_value());
  EXPECT_EQ(best(checkpoints("run")), step(3));
}

TEST_P(LostWork, TheBestStaysWhenValidationGetsWorse) {
  const Options keep = {{"checkpoint.keep", std::int64_t{1}}};
  run("run", with(keep, {{"train.epochs", std::int64_t{1}}}));
  EXPECT_EQ(best(checkpoints("run")), step(3));
  run("run", with(keep, {{"data.train.slope", -2.0}}), folder_.file("run"));
  EXPECT_EQ(best(checkpoints("run")), step(3));
  EXPECT_EQ(steps(checkpoints("run")), (std::set{step(3), step(9)}));
  const std::set<std::string> residuals = best_residuals(checkpoints("run"));
  EXPECT_EQ(residuals, GetParam().name.ends_with("Residuals") ? std::set{step(3)} : std::set<std::string>());
}

TEST_P(LostWork, WhatIsNotFiniteIsNeverTheBest) {
  run("run", {{"data.validation.nan", true}, {"train.epochs", std::int64_t{1}}});
  EXPECT_EQ(best(checkpoints("run")), "");
  run("run", {{"train.epochs", std::int64_t{2}}}, folder_.file("run"));
  EXPECT_NE(best(checkpoints("run")), "");
}

TEST_P(LostWork, ADivergingRunPushesOutNoCheckpoint) {
  for (const std::int64_t every : {0, 1}) {
    const std::string name = "run" + std::to_string(every);
    const Options often = {
        {"checkpoint.every_steps", every}, {"checkpoint.keep", std::int64_t{2}}, {"train.max_skipped", std::int64_t{7}}};
    run(name, with(often, {{"train.epochs", std::int64_t{2}}}));
    const auto before = steps(checkpoints(name));
    const auto best_before = best(checkpoints(name));
    EXPECT_EQ(before.size(), 2u);
    const auto diverges = [&] {
      run(name, with(often, {{"data.train.nan", true}, {"train.epochs", std::int64_t{40}}}), folder_.file(name));
    };
    EXPECT_THAT(error_of(diverges), HasSubstr("in a row"));
    EXPECT_EQ(steps(checkpoints(name)), before);
    EXPECT_EQ(best(checkpoints(name)), best_before);
    // The end of a run is saved beside them.
    run(name, with(often, {{"data.train.nan", true}, {"train.epochs", std::int64_t{3}}}), folder_.file(name));
    auto after = before;
    after.insert(step(9));
    EXPECT_EQ(steps(checkpoints(name)), after);
    EXPECT_EQ(best(checkpoints(name)), best_before);
  }
}

TEST_P(LostWork, AnEpochWhoseLastUpdateIsSkippedIsSavedAfterTheNext) {
  run("run", {{"data.shuffle", false}, {"data.train.poison", std::int64_t{23}}, {"data.validation.nan", true}});
  EXPECT_EQ(steps(checkpoints("run")), (std::set{step(4), step(7), step(9)}));
  // A validation that is finite shows that the state is good.
  run("good", {{"data.shuffle", false}, {"data.train.poison", std::int64_t{23}}, {"checkpoint.keep", std::int64_t{9}}});
  EXPECT_EQ(best(checkpoints("good")), step(9));
  EXPECT_EQ(steps(checkpoints("good")), (std::set{step(3), step(6), step(9)}));
}

TEST_P(LostWork, GoingOnFromAnOlderCheckpointMovesLaterOnesAside) {
  const Options often = {
      {"checkpoint.every_steps", std::int64_t{1}}, {"checkpoint.keep", std::int64_t{20}}, {"train.epochs", std::int64_t{2}}};
  run("run", often);
  ASSERT_EQ(best(checkpoints("run")), step(6));
  const auto tensors = tensors_of(checkpoints("run") / step(6));
  const TrainResult after =
      run("run", with(often, {{"train.epochs", std::int64_t{1}}}), (checkpoints("run") / step(2)).string());
  EXPECT_EQ(after.steps, 3);
  EXPECT_EQ(steps(checkpoints("run")), (std::set{step(1), step(2), step(3)}));
  EXPECT_EQ(fs::read_symlink(checkpoints("run") / "latest"), step(3));
  const fs::path aside = checkpoints("run") / "superseded-1";
  EXPECT_EQ(steps(aside), (std::set{step(3), step(4), step(5), step(6)}));
  EXPECT_EQ(best(aside), step(6));
  EXPECT_TRUE(describe_checkpoint(aside / step(6)).intact());
  EXPECT_EQ(tensors_of(aside / step(6)), tensors);
  for (const auto& rank : fs::directory_iterator(aside)) {
    if (rank.path().filename() != "residuals") continue;
    for (const auto& folder : fs::directory_iterator(rank.path())) EXPECT_EQ(steps(folder.path()), steps(aside));
  }
  EXPECT_EQ(fs::exists(aside / "residuals"), GetParam().name.ends_with("Residuals"));
}

INSTANTIATE_TEST_SUITE_P(All, LostWork, ::testing::ValuesIn(ways()), name_of);

}  // namespace
}  // namespace cohort
