// Checkpoints that are written and read as they should be: contents, links, which files stay, what does not fit.
#include "cohort/checkpoint/checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <set>

#include "checkpoint/sample_state.hpp"
#include "hdf5/file.hpp"
#include "run/run.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using namespace cohort::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Saves one state as that step and waits for it.
void save(CheckpointWriter& writer, Stateful& state, std::int64_t step, bool best = false) {
  Stateful* parts[] = {&state};
  writer.save(parts, step, best);
  writer.close();
}

CheckpointHeader load(const fs::path& path, Stateful& state, Extra extra = Extra::refuse) {
  Stateful* parts[] = {&state};
  return load_checkpoint(path, parts, extra);
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return {names.begin(), names.end()};
}

TEST(Checkpoint, RoundTripKeepsEveryBit) {
  const TemporaryFolder folder;
  SampleState saved(0), loaded(99);
  CheckpointWriter writer(folder.path() / "a" / "b", 3, "[train]\nepochs = 6\n");
  save(writer, saved, 1200);
  auto* padding = loaded.tensors[0].second.data<float>() + 25;
  *padding = -7;
  const CheckpointHeader header = load(folder.path() / "a" / "b", loaded);
  EXPECT_EQ(saved.bits(), loaded.bits());
  EXPECT_EQ(*padding, -7);   // between the rows
  EXPECT_EQ(header.step, 1200);
  EXPECT_EQ(header.configuration, "[train]\nepochs = 6\n");
  EXPECT_EQ(header.path, folder.path() / "a" / "b" / "step-0000001200.h5");
  SampleState again(98);
  load(header.path, again);
  EXPECT_EQ(saved.bits(), again.bits());
}

TEST(Checkpoint, SavesACopySoTrainingMayGoOn) {
  const TemporaryFolder folder;
  SampleState state(1, 20000), loaded(0, 20000);   // 4 MB: the write takes a while
  CheckpointWriter writer(folder.path(), 10, "");
  Stateful* parts[] = {&state};
  std::vector<std::string> expected;
  for (std::uint64_t step = 0; step < 4; ++step) {
    state.fill(step);
    expected.push_back(state.bits());
    writer.save(parts, static_cast<std::int64_t>(step));
  }
  state.fill(100);
  writer.close();
  for (std::size_t step = 0; step < 4; ++step) {
    load(folder.path() / ("step-000000000" + std::to_string(step) + ".h5"), loaded);
    EXPECT_TRUE(loaded.bits() == expected[step]) << step;
  }
}

TEST(Checkpoint, PartsMayChangeShapeBetweenSaves) {
  const TemporaryFolder folder;
  SampleState small(1, 3), large(2, 9), loaded(0, 9);
  CheckpointWriter writer(folder.path(), 3, "");
  save(writer, large, 1);
  save(writer, small, 2);
  save(writer, large, 3);
  load(folder.path(), loaded);
  EXPECT_EQ(loaded.bits(), large.bits());
}

TEST(BestScore, IsTheLargestOfAllThatAreNumbers) {
  TrainerState state;
  std::vector<bool> best;
  for (const double score : {std::nan(""), -2.0, std::nan(""), -3.0, -2.0, -1.0}) best.push_back(state.take_score(score));
  EXPECT_THAT(best, ElementsAre(false, true, false, false, false, true));
}

TEST(Checkpoint, KeepsTheNewestAndTheBest) {
  const TemporaryFolder folder;
  SampleState state(1, 2);
  CheckpointWriter writer(folder.path(), 2, "");
  save(writer, state, 10, true);
  save(writer, state, 20);
  save(writer, state, 30);
  save(writer, state, 40);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("best", "latest", "step-0000000010.h5", "step-0000000030.h5", "step-0000000040.h5"));
  EXPECT_EQ(fs::read_symlink(folder.path() / "best"), "step-0000000010.h5");
  EXPECT_EQ(fs::read_symlink(folder.path() / "latest"), "step-0000000040.h5");
  save(writer, state, 50, true);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("best", "latest", "step-0000000040.h5", "step-0000000050.h5"));
  EXPECT_EQ(load(folder.path() / "best", state).step, 50);
}

TEST(Checkpoint, ARunThatGoesOnFromAnEarlierOneDropsTheLaterOnesFirst) {
  const TemporaryFolder folder;
  SampleState state(1, 2);
  CheckpointWriter first(folder.path(), 3, "");
  for (const std::int64_t step : {100, 200, 300}) save(first, state, step);
  CheckpointWriter second(folder.path(), 3, "");
  save(second, state, 150);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("latest", "step-0000000100.h5", "step-0000000150.h5", "step-0000000200.h5"));
  save(second, state, 160);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("latest", "step-0000000100.h5", "step-0000000150.h5", "step-0000000160.h5"));
  EXPECT_EQ(load(folder.path(), state).step, 160);
}

TEST(Checkpoint, TheSameStepMayBeSavedAgain) {
  const TemporaryFolder folder;
  SampleState first(1), second(2), loaded(0);
  CheckpointWriter writer(folder.path(), 1, "");
  save(writer, first, 5);
  save(writer, second, 5);
  load(folder.path(), loaded);
  EXPECT_EQ(loaded.bits(), second.bits());
}

TEST(Checkpoint, LeftOversAreRemovedAndForeignFilesStay) {
  const TemporaryFolder folder;
  write_bytes(folder.file(".writing-step-0000000007.h5"), "half");
  write_bytes(folder.file("notes.txt"), "mine");
  write_bytes(folder.file("step-12-of-mine.h5"), "mine");
  SampleState state(1, 2);
  CheckpointWriter writer(folder.path(), 1, "");
  save(writer, state, 1);
  save(writer, state, 2);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "notes.txt", "step-0000000002.h5", "step-12-of-mine.h5"));
}

TEST(Checkpoint, WhatDoesNotFitIsNamedAndNothingIsLoaded) {
  const TemporaryFolder folder;
  SampleState saved(1);
  CheckpointWriter writer(folder.path(), 1, "");
  save(writer, saved, 1);
  SampleState other(2);
  other.tensors[0].second = Tensor::zeros({40, 26});
  other.tensors[3].first = "slots/m/hidden/weight";
  other.tensors[8].second = Tensor::zeros({2, 3}, DType::int64);
  const std::string before = other.bits();
  const std::string error = error_of([&] { load(folder.path(), other); });
  EXPECT_THAT(error, HasSubstr("step-0000000001.h5: is not of this model and optimizer; missing in the file: "
                               "/slots/m/hidden/weight; only in the file: /slots/momentum/hidden/weight; different: "
                               "/labels (int32[2, 3] in the file, int64[2, 3] here) "
                               "/parameters/hidden/weight (float32[40, 25] in the file, float32[40, 26] here)"));
  EXPECT_EQ(other.bits(), before);
}

/// A value where the file has a text, and the other way round.
struct Confused final : Stateful {
  std::int64_t a = 1;
  double b = 2;
  void load(StateReader& reader) override {
    reader.value("train/generator", a);
    reader.value("train/step", b);
  }
};

TEST(Checkpoint, KindsAreCompared) {
  const TemporaryFolder folder;
  SampleState saved(1);
  CheckpointWriter writer(folder.path(), 1, "");
  save(writer, saved, 1);
  Confused confused;
  EXPECT_THAT(error_of([&] { load(folder.path(), confused, Extra::ignore); }),
              HasSubstr("different: /train/generator (text in the file, int64 value here) /train/step (int64 value in the "
                        "file, float64 value here)"));
}

/// What a version of this program keeps, and a later one.
struct Grown final : Stateful {
  std::int64_t old = 1, added = 7;
  bool later = true;
  void save(StateWriter& writer) const override {
    writer.value("old", old);
    if (later) writer.added_value("added", added);
  }
  void load(StateReader& reader) override {
    reader.value("old", old);
    if (later) reader.added_value("added", added);
  }
};

TEST(Checkpoint, ALaterVersionReadsAnEarlierOnes) {
  const TemporaryFolder folder;
  Grown earlier, later;
  earlier.old = 3;
  earlier.later = false;
  CheckpointWriter writer(folder.path(), 5, "");
  save(writer, earlier, 1);
  load(folder.path(), later);
  EXPECT_EQ(later.old, 3);
  EXPECT_EQ(later.added, 7);
  later.added = 9;
  save(writer, later, 2);
  Grown again;
  load(folder.path(), again);
  EXPECT_EQ(again.added, 9);
  EXPECT_THAT(error_of([&] { load(folder.path(), earlier); }), HasSubstr("only in the file: /added"));
}

TEST(Checkpoint, TheLastSaveMayTurnOutToBeTheBest) {
  const TemporaryFolder folder;
  SampleState state(1);
  CheckpointWriter writer(folder.path(), 1, "");
  save(writer, state, 1);                                    // is written by now
  writer.mark_best();
  EXPECT_EQ(fs::read_symlink(folder.path() / "best"), "step-0000000001.h5");
  Stateful* parts[] = {&state};
  for (const std::int64_t step : {2, 3}) writer.save(parts, step);
  writer.mark_best();                                        // is being written
  writer.close();
  EXPECT_EQ(fs::read_symlink(folder.path() / "best"), "step-0000000003.h5");
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 1u);     // what was the best is not kept any longer
}

TEST(Checkpoint, ExtraStateMayBeIgnored) {
  const TemporaryFolder folder;
  SampleState saved(1), fewer(2);
  CheckpointWriter writer(folder.path(), 1, "");
  save(writer, saved, 1);
  fewer.tensors.resize(2);
  EXPECT_THAT(error_of([&] { load(folder.path(), fewer); }), HasSubstr("only in the file: /brain /half /labels /mask"));
  load(folder.path(), fewer, Extra::ignore);
  saved.tensors.resize(2);
  EXPECT_EQ(fewer.bits(), saved.bits());
}

TEST(Checkpoint, TwoPiecesOfOneNameAreRefusedBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  SampleState state(1, 2);
  Stateful* twice[] = {&state, &state};
  CheckpointWriter writer(folder.path(), 1, "");
  EXPECT_THAT(error_of([&] { writer.save(twice, 1); }), HasSubstr("'parameters/hidden/weight' is there twice"));
  EXPECT_THAT(names_in(folder.path()), ElementsAre());
}

TEST(Checkpoint, AbsentOnesAreExplained) {
  const TemporaryFolder folder;
  SampleState state(1, 2);
  EXPECT_THAT(error_of([&] { load(folder.path(), state); }), HasSubstr("/latest: no such file; there is no other intact"));
  EXPECT_THAT(error_of([&] { load(folder.file("no.h5"), state); }), HasSubstr("/no.h5: no such file"));
  hdf5::File::create(folder.file("data.h5")).close();
  EXPECT_THAT(error_of([&] { load(folder.file("data.h5"), state); }), HasSubstr("is an HDF5 file, but no checkpoint"));
  hdf5::File later = hdf5::File::create(folder.file("later.h5"));
  later.set_attribute("/", "format", std::string("cohort checkpoint"));
  later.set_attribute("/", "version", std::int64_t{2});
  later.close();
  EXPECT_THAT(error_of([&] { load(folder.file("later.h5"), state); }), HasSubstr("version 2, this program knows version 1"));
  EXPECT_THAT(error_of([&] { CheckpointWriter(folder.path(), 0, ""); }), HasSubstr("allowed: at least 1"));
  EXPECT_THAT(error_of([&] { CheckpointWriter(folder.file("data.h5"), 1, ""); }), HasSubstr("cannot make this directory"));
}

TEST(Checkpoint, AFailedWriteIsReportedAtTheNextCall) {
  const TemporaryFolder folder;
  SampleState state(1, 2);
  Stateful* parts[] = {&state};
  std::string logged;
  {
    CheckpointWriter writer(folder.path() / "gone", 1, "", Log("", LogLevel::info, [&](LogLevel, std::string_view line) {
                              logged += line;
                            }));
    fs::remove_all(folder.path() / "gone");
    writer.save(parts, 1);
    EXPECT_THAT(error_of([&] { writer.save(parts, 2); }), HasSubstr("gone/.writing-step-0000000001.h5: cannot create"));
    EXPECT_EQ(logged, "");
    writer.save(parts, 3);   // reported once; a later write tries again
  }
  EXPECT_THAT(logged, HasSubstr("gone/.writing-step-0000000003.h5: cannot create"));
}

TEST(Checkpoint, DescriptionHasStatisticsAndMarksDamage) {
  const TemporaryFolder folder;
  SampleState state(1);
  state.tensors[1].second = Tensor::of<float>({4}, {-3, 0, 4, std::numeric_limits<float>::infinity()});
  CheckpointWriter writer(folder.path(), 1, "epochs = 6\n");
  save(writer, state, 12);
  const auto find = [](const CheckpointDescription& description, std::string_view name) -> CheckpointEntry {
    for (const auto& entry : description.entries) {
      if (entry.name == name) return entry;
    }
    ADD_FAILURE() << name << " is not described";
    return {};
  };
  const CheckpointDescription good = describe_checkpoint(folder.path());
  EXPECT_TRUE(good.intact());
  EXPECT_EQ(good.entries.size(), 16u);
  const CheckpointEntry bias = find(good, "parameters/hidden/bias");
  EXPECT_EQ(bias.dtype, DType::float32);
  EXPECT_EQ(bias.shape, (Shape{4}));
  EXPECT_EQ(bias.not_finite, 1);
  EXPECT_EQ(bias.least, -3);
  EXPECT_EQ(bias.most, 4);
  EXPECT_DOUBLE_EQ(bias.mean, 1.0 / 3);
  EXPECT_DOUBLE_EQ(bias.norm, 5);
  EXPECT_EQ(find(good, "train/step").text, "-3");
  EXPECT_THAT(good.text(), HasSubstr("step 12, 16 data sets, all intact"));
  EXPECT_THAT(good.text(), HasSubstr("configuration\n\nepochs = 6\n"));

  // The bias's bytes, found by what they are.
  std::string bytes = read_bytes(good.header.path);
  const float values[] = {-3, 0, 4};
  const auto at = bytes.find(std::string_view(reinterpret_cast<const char*>(values), sizeof values));
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_bytes(good.header.path, bytes);
  const CheckpointDescription bad = describe_checkpoint(folder.path());
  EXPECT_FALSE(bad.intact());
  for (const auto& entry : bad.entries) EXPECT_EQ(entry.intact, entry.name != "parameters/hidden/bias") << entry.name;
  EXPECT_THAT(bad.text(), HasSubstr("DAMAGED"));
}

std::string output_of(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::string output;
  std::array<char, 4096> part{};
  while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe)) output.append(part.data(), n);
  return pclose(pipe) == 0 ? output : "failed: " + output;
}

TEST(Checkpoint, H5dumpReadsIt) {
  if (std::system("command -v h5dump > /dev/null") != 0) GTEST_SKIP() << "h5dump is not installed (hdf5-tools)";
  const TemporaryFolder folder;
  SampleState state(4);
  state.tensors[8].second = Tensor::of<std::int32_t>({2, 3}, {10, -20, 30, 40, 50, 60});
  CheckpointWriter writer(folder.path(), 1, "epochs = 6\n");
  save(writer, state, 1);
  const std::string labels = output_of("h5dump -p -d /labels " + folder.file("latest"));
  EXPECT_THAT(labels, HasSubstr("(0,0): 10, -20, 30"));
  EXPECT_THAT(labels, HasSubstr("(1,0): 40, 50, 60"));
  EXPECT_THAT(labels, HasSubstr("H5T_STD_I32LE"));
  EXPECT_THAT(labels, HasSubstr("CONTIGUOUS"));
  EXPECT_THAT(labels, HasSubstr("crc32c"));
  EXPECT_THAT(output_of("h5dump -d /train/step " + folder.file("latest")), HasSubstr("(0): -12"));
  EXPECT_THAT(output_of("h5dump -d /configuration " + folder.file("latest")), HasSubstr("epochs = 6"));
  EXPECT_THAT(output_of("h5dump -a /format " + folder.file("latest")), HasSubstr("cohort checkpoint"));
}

}  // namespace
}  // namespace cohort
