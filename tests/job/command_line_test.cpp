#include "job/command_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "cohort/base/error.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using testing::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "/usr/bin/cohort");
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

TEST(CommandLine, OptionsTakeOneWordEachAndMayStandAnywhere) {
  const CommandLine line =
      parse({"train", "--set", "a=1", "job.toml", "--plugin", "x.so", "--set=b=-2", "--plugin", "y.so", "--resume", "auto"});
  EXPECT_EQ(line.program, "cohort");
  EXPECT_EQ(line.job, "train");
  EXPECT_EQ(line.argument, "job.toml");
  EXPECT_THAT(line.settings, ElementsAre("a=1", "b=-2"));
  EXPECT_THAT(line.plugins, ElementsAre("x.so", "y.so"));
  EXPECT_EQ(line.resume, "auto");
  EXPECT_FALSE(line.help);
}

TEST(CommandLine, ValuesKeepCommasBracketsAndSigns) {
  EXPECT_THAT(parse({"train", "--set", "a=[1, 2]"}).settings, ElementsAre("a=[1, 2]"));
  EXPECT_THAT(parse({"train", "--set", "a=x,y"}).settings, ElementsAre("a=x,y"));
  EXPECT_THAT(parse({"train", "--set", "a=\"q\""}).settings, ElementsAre("a=\"q\""));
}

TEST(CommandLine, NothingAtAllIsFine) {
  const CommandLine line = parse({});
  EXPECT_EQ(line.job, "");
  EXPECT_TRUE(parse({"--version"}).version);
  EXPECT_TRUE(parse({"list", "-h"}).help);
}

TEST(CommandLine, WhatIsNotUnderstoodIsRefused) {
  EXPECT_THAT(error_of([] { (void)parse({"train", "--foo"}); }), HasSubstr("--foo"));
  EXPECT_THAT(error_of([] { (void)parse({"train", "a", "b"}); }), HasSubstr("b"));
  EXPECT_THAT(error_of([] { (void)parse({"train", "--set"}); }), HasSubstr("--set"));
}

TEST(CommandLine, HelpNamesEveryJobWithItsSummary) {
  const std::string usage = usage_text("cohort");
  for (const auto& [name, entry] : Registry<JobType>::instance().entries()) {
    EXPECT_THAT(usage, HasSubstr("  " + name + " "));
    EXPECT_THAT(usage, HasSubstr(entry.value.summary));
    const std::string help = help_text("cohort", name, entry.value);
    EXPECT_THAT(help, HasSubstr("cohort " + name));
    EXPECT_EQ(help.find("--resume") != std::string::npos, entry.value.resumes);
  }
}

TEST(CommandLine, AMissingOrBrokenPluginIsNamedWithTheLoadersReason) {
  const testing::TemporaryFolder folder;
  testing::write_bytes(folder.file("broken.so"), "not a library");
  EXPECT_THAT(error_of([&] { load_plugin(folder.file("broken.so")); }), HasSubstr("broken.so: cannot load: "));
  EXPECT_THAT(error_of([&] { load_plugin("nix.so"); }), HasSubstr("--plugin nix.so: cannot load: ./nix.so"));
}

}  // namespace
}  // namespace cohort
