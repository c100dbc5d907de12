#include "job/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using testing::error_of;
using testing::TemporaryFolder;
using testing::write_bytes;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

Configuration load(const std::string& toml, const std::vector<std::string>& settings = {}) {
  const TemporaryFolder folder;
  write_bytes(folder.file("job.toml"), toml);
  return load_configuration(folder.file("job.toml"), settings);
}

std::string refusal(const std::string& toml, const std::vector<std::string>& settings = {}) {
  return error_of([&] { (void)load(toml, settings); });
}

TEST(Configuration, ReadsValuesSectionsAndListsOfSections) {
  Configuration c = load("seed = 7\n[optimizer]\nname = 'adam'\nrate = 1e-3\n[[optimizer.group]]\npattern = 'a'\n"
                         "[[optimizer.group]]\npattern = 'b'\nshape = [1, 2]\n");
  std::int64_t seed = 0;
  double rate = 0;
  std::string name, pattern;
  std::vector<std::int64_t> shape;
  c.root.bind("seed", seed, "");
  Section& optimizer = c.root.child("optimizer");
  optimizer.bind("name", name, "");
  optimizer.bind("rate", rate, "");
  const std::vector<Section*> groups = optimizer.children("group");
  ASSERT_EQ(groups.size(), 2u);
  groups[0]->bind("pattern", pattern, "");
  EXPECT_EQ(pattern, "a");
  groups[1]->bind("pattern", pattern, "");
  groups[1]->bind("shape", shape, "");
  EXPECT_EQ(pattern, "b");
  EXPECT_EQ(shape, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(seed, 7);
  EXPECT_EQ(rate, 1e-3);
  EXPECT_EQ(name, "adam");
  EXPECT_NO_THROW(c.root.finish());
  EXPECT_EQ(c.text, "optimizer.group.0.pattern = 'a'\noptimizer.group.1.pattern = 'b'\noptimizer.group.1.shape = [ 1, 2 ]\n"
                    "optimizer.name = 'adam'\noptimizer.rate = 0.001\nseed = 7\n");
}

TEST(Configuration, SettingsOverrideAndBareWordsAreTexts) {
  Configuration c =
      load("a = 1\n[data]\nfile = 'x'\n[[group]]\nrate = 1.0\n",
           {"a=2", "data.file=/data/set one", "data.limit=1_000", "data.on=true", "data.when=2024-01-01", "data.list=[1, 2]",
            "group.0.rate=0.5", "group.1.rate=0.25", "fresh.0.rate=3", "data.quote=say \"hi\""});
  std::int64_t a = 0, limit = 0;
  bool on = false;
  std::string file, when, quote;
  std::vector<std::int64_t> list;
  double rate = 0;
  c.root.bind("a", a, "");
  Section& data = c.root.child("data");
  data.bind("file", file, "");
  data.bind("limit", limit, "");
  data.bind("on", on, "");
  data.bind("when", when, "");
  data.bind("quote", quote, "");
  data.bind("list", list, "");
  EXPECT_EQ(a, 2);
  EXPECT_EQ(file, "/data/set one");
  EXPECT_EQ(limit, 1000);
  EXPECT_TRUE(on);
  EXPECT_EQ(when, "2024-01-01");
  EXPECT_EQ(quote, "say \"hi\"");
  EXPECT_EQ(list, (std::vector<std::int64_t>{1, 2}));
  ASSERT_EQ(c.root.children("group").size(), 2u);
  c.root.children("group")[0]->bind("rate", rate, "");
  EXPECT_EQ(rate, 0.5);
  c.root.children("group")[1]->bind("rate", rate, "");
  EXPECT_EQ(rate, 0.25);
  ASSERT_EQ(c.root.children("fresh").size(), 1u);
}

TEST(Configuration, AControlCharacterInASettingIsRefusedWithTheKey) {
  EXPECT_THAT(refusal("", {"data.file=a\x07z"}),
              AllOf(HasSubstr("--set data.file: the value has a control character (number 7)"), HasSubstr("as in --set 'data.file=\"first\\nsecond\"'")));
  EXPECT_THAT(refusal("", {"data.file=1\nx=2"}), HasSubstr("--set data.file: the value has a control character (number 10)"));
  EXPECT_THAT(refusal("", {"data.file=a\xff"}), HasSubstr("--set data.file: the value is no text: "));
  Configuration c = load("", {"a=\"x\\u0007\\ny\""});
  std::string text;
  c.root.bind("a", text, "");
  EXPECT_EQ(text, "x\x07\ny");
}

TEST(Configuration, ANumberOfTheCommandLineIsATextWhereTheKeyIsOne) {
  Configuration c = load("[train]\nname = 'a'\nfile = 3\n", {"train.name=007", "train.run=4711", "train.float=1e5", "train.flag=true", "train.when=12:30:00"});
  std::string name, run, number, flag, when, file;
  Section& train = c.root.child("train");
  train.bind("name", name, "");
  train.bind("run", run, "");
  train.bind("float", number, "");
  train.bind("flag", flag, "");
  train.bind("when", when, "");
  EXPECT_EQ(name + " " + run + " " + number + " " + flag + " " + when, "007 4711 1e5 true 12:30:00");
  EXPECT_THAT(error_of([&] { train.bind("file", file, ""); }), HasSubstr("job.toml:3: train.file = 3: expected a text in quotes"));
}

TEST(Configuration, AListOfSectionsCanBeMadeEmpty) {
  Configuration c = load("[[phase]]\nepochs = 1\n[[phase]]\n", {"phase=[]", "fault=[]"});
  EXPECT_TRUE(c.root.children("phase").empty());
  EXPECT_TRUE(c.root.children("fault").empty());
  EXPECT_NO_THROW(c.root.finish());
}

TEST(Configuration, VariablesInPathsAreThoseOfTheEnvironment) {
  const char* const home = std::getenv("HOME");
  Configuration c = load("[data]\nfile = '~/x'\n");
  std::string file;
  if (home != nullptr) {
    c.root.child("data").bind_path("file", file, "");
    EXPECT_EQ(file, std::string(home) + "/x");
  }
}

TEST(Configuration, AWholeSectionCanBeReplaced) {
  const std::string text = load("[model]\ntype = 'mlp'\nhidden = [64]\n[[g]]\nx = 1\n", {"model={type='mine'}", "g=[{y=1}]"}).text;
  EXPECT_EQ(text, "g.0.y = 1\nmodel.type = 'mine'\n");
}

TEST(Configuration, DamagedFilesAreRefusedWithLineAndColumn) {
  EXPECT_THAT(refusal("a = 1\nb = = 2\n"), HasSubstr("job.toml:2:5: "));
  EXPECT_THAT(refusal("a = \"open\n"), HasSubstr("job.toml:1:"));
  EXPECT_THAT(refusal("[sec\n"), HasSubstr("job.toml:1:"));
  EXPECT_THAT(refusal("a = 1\na = 2\n"), HasSubstr("job.toml:2:"));
  EXPECT_THAT(refusal(std::string("a = \"\xff\xfe\"\n")), HasSubstr("job.toml:1:"));
  EXPECT_THAT(refusal(std::string("a = 1\0\n", 7)), HasSubstr("job.toml:1:"));
  EXPECT_THAT(refusal("when = 2024-01-01\n"),
              AllOf(HasSubstr("job.toml:1: when: expected a number"), HasSubstr("text in quotes")));
  EXPECT_EQ(refusal(""), "");
}

TEST(Configuration, EveryTruncationOfAFileIsReadOrRefusedButNothingElse) {
  const std::string whole =
      "seed = 1\n[optimizer]\nname = \"adam\"\nrates = [0.1, 0.2]\n[[optimizer.group]]\npattern = '*/b'\n";
  for (std::size_t n = 0; n <= whole.size(); ++n) {
    const std::string text = refusal(whole.substr(0, n));
    if (!text.empty()) { EXPECT_THAT(text, HasSubstr("job.toml:")) << n; }
  }
}

TEST(Configuration, MissingFilesAndFoldersAreNamed) {
  const TemporaryFolder folder;
  const std::string missing = folder.file("nix.toml"), path = folder.path().string();
  EXPECT_EQ(error_of([&] { (void)load_configuration(missing, {}); }), missing + ": no such job file");
  EXPECT_EQ(error_of([&] { (void)load_configuration(path, {}); }), path + ": is a folder, not a job file");
}

TEST(Configuration, WrongSettingsAreRefused) {
  for (const char* wrong : {"a", "=1", ".=1", "a.=1", ".a=1", "a..b=1", ""}) {
    EXPECT_THAT(refusal("", {wrong}), HasSubstr("expected KEY=VALUE")) << wrong;
  }
  EXPECT_THAT(refusal("a = 1\n", {"a.b=2"}), AllOf(HasSubstr("--set a.b=2: 'a' is a value"), HasSubstr("job.toml:1")));
  EXPECT_THAT(refusal("[s]\nx = 1\n", {"s=2"}), AllOf(HasSubstr("'s' is a section"), HasSubstr("job.toml:1")));
  EXPECT_THAT(refusal("[[g]]\nx = 1\n", {"g.x=2"}), HasSubstr("name an entry by its number, as in g.0"));
  EXPECT_THAT(refusal("[[g]]\nx = 1\n", {"g.2.x=2"}), HasSubstr("expected a number from 0 to 1"));
  EXPECT_THAT(refusal("", {"a=[1, 2"}), HasSubstr("--set a=[1, 2: "));
}

TEST(Configuration, UnknownKeysNameFileAndLineOrTheSetting) {
  const auto unknown = [](const std::string& toml, const std::vector<std::string>& settings) {
    Configuration c = load(toml, settings);
    std::int64_t epochs = 1;
    c.root.child("training").bind("epochs", epochs, "");
    return error_of([&] { c.root.finish(); });
  };
  EXPECT_THAT(unknown("[training]\nepoch = 3\n", {}),
              HasSubstr("job.toml:2: unknown key 'training.epoch', did you mean 'epochs'?"));
  EXPECT_THAT(unknown("\n[trainig]\nepochs = 3\n", {}),
              HasSubstr("job.toml:2: unknown key 'trainig', did you mean 'training'?"));
  EXPECT_THAT(unknown("", {"training.epoch=3"}),
              HasSubstr("--set training.epoch: unknown key 'training.epoch', did you mean 'epochs'?"));
}

TEST(Configuration, DifferentConfigurationsAreRefusedOnAllRanksWithTheDifference) {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    std::vector<std::string> texts(static_cast<std::size_t>(ranks));
    run_as_threads(ranks, [&](Communicator& world) {
      const bool odd = world.rank() == 1;
      const std::string mine =
          std::string("same = 1\nrate = ") + (odd ? "0.2" : "0.1") + "\n" + (odd ? "extra = true\n" : "");
      texts[static_cast<std::size_t>(world.rank())] = error_of([&] { compare_between_ranks(world, mine, "they differ"); });
    });
    if (ranks == 1) {
      EXPECT_EQ(texts[0], "");
      continue;
    }
    for (const std::string& text : texts) EXPECT_EQ(text, texts[0]);
    EXPECT_THAT(texts[0], ::testing::StartsWith("they differ:\n  "));
    EXPECT_THAT(texts[0], AllOf(HasSubstr("extra: true on rank 1; not set elsewhere."), HasSubstr("0.2 on rank 1."),
                                HasSubstr(ranks == 3 ? "rate: 0.1 on ranks 0 2;" : "rate: 0.1 on rank")));
    EXPECT_THAT(texts[0], ::testing::Not(HasSubstr("same")));
  }
}

}  // namespace
}  // namespace cohort
