#include "cohort/base/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "cohort/base/error.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Options, UnknownKeyNamesTheNearestOne) {
  Section root;
  root.add_child_entry("optimizer").set("momentun", {0.9, "job.toml:3"});
  Section& optimizer = root.child("optimizer");
  double momentum = 0;
  optimizer.bind("momentum", momentum, "how much of the last step is kept", between(0, 1));
  const std::string text = error_of([&] { root.finish(); });
  EXPECT_THAT(text, HasSubstr("job.toml:3: unknown key 'optimizer.momentun', did you mean 'momentum'?"));
}

TEST(Options, BadValuesShowTheAllowedRangeAndKind) {
  Section root;
  root.set("rate", {1.5, "--set"});
  root.set("batch", {std::string("many"), "job.toml:7"});
  root.set("codec", {std::string("fp23"), "job.toml:8"});
  double rate = 0.1;
  std::int64_t batch = 64;
  std::string codec = "fp32";
  EXPECT_THAT(error_of([&] { root.bind("rate", rate, "", between(0, 1)); }), HasSubstr("--set: rate = 1.5: allowed: 0 <= value <= 1"));
  EXPECT_THAT(error_of([&] { root.bind("batch", batch, "", at_least(1)); }), HasSubstr("expected a whole number, value >= 1"));
  EXPECT_THAT(error_of([&] { root.bind("codec", codec, "", one_of({"bf16", "fp32"})); }), HasSubstr("did you mean 'fp32'?"));
  EXPECT_EQ(rate, 0.1);
}

TEST(Options, WholeNumbersPassAsFloatsAndResolvedTextHoldsDefaults) {
  Section root;
  root.set("rate", {std::int64_t{1}, "--set"});
  double rate = 0.5;
  std::vector<std::int64_t> hidden = {512, 10};
  root.bind("rate", rate, "");
  root.child("model").bind("hidden", hidden, "");
  EXPECT_EQ(rate, 1.0);
  EXPECT_EQ(root.resolved(), "rate = 1.0\n\n[model]\nhidden = [512, 10]\n");
  EXPECT_NO_THROW(root.finish());
}

TEST(Options, NumbersMustBeSuchAsOneCanComputeWith) {
  const auto refused = [](auto field, decltype(OptionValue::value) value, const Allowed& allowed) {
    Section root;
    root.set("x", {std::move(value), "job.toml:1"});
    return error_of([&] { root.bind("x", field, "", allowed); });
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double wrong : {kInfinity, -kInfinity, std::nan(""), 1e300, -1e300}) {
    EXPECT_THAT(refused(1.0, wrong, {}), HasSubstr("x = "));
    EXPECT_THAT(refused(1.0, wrong, at_least(0)), HasSubstr(wrong > 0 ? "allowed: 0 <= value <= 3.403e+38" : "allowed: value >= 0"));
    EXPECT_THAT(refused(std::vector<double>{}, OptionList{{wrong, ""}}, {}), HasSubstr("x = ["));
  }
  EXPECT_THAT(refused(1.0, 1e-300, above(0)), HasSubstr("value <= 3.403e+38, also as a float32"));
  EXPECT_EQ(refused(1.0, 1e-300, at_least(0)), "no error");
  EXPECT_EQ(refused(1.0, 3.4e38, {}), "no error");
  constexpr std::int64_t kMost = std::int64_t{1} << 53;
  EXPECT_EQ(refused(std::int64_t{1}, kMost, at_least(0)), "no error");
  EXPECT_THAT(refused(std::int64_t{1}, kMost + 1024, at_least(0)), HasSubstr("allowed: 0 <= value <= 9007199254740992"));
  EXPECT_THAT(refused(1, std::int64_t{1} << 31, at_least(1)), HasSubstr("allowed: 1 <= value <= 2147483647"));
}

TEST(Options, ATableWhereAValueIsExpectedIsRefusedWhateverIsInIt) {
  Section root;
  root.add_child_entry("epochs", "job.toml:4");
  std::int64_t epochs = 1;
  EXPECT_EQ(error_of([&] { root.bind("epochs", epochs, ""); }), "job.toml:4: epochs is a key, no section: expected epochs = VALUE");
  Section twice;
  twice.add_child_entry("train", "job.toml:1");
  twice.add_child_entry("train", "job.toml:3");
  EXPECT_EQ(error_of([&] { twice.child("train"); }), "job.toml:3: train is there 2 times, expected one section, as in [train]");
}

TEST(Options, AListOfNoSectionsIsNone) {
  Section root;
  root.set("phase", {OptionList{}, "--set phase"});
  EXPECT_TRUE(root.children("phase").empty());
  EXPECT_NO_THROW(root.finish());
  root.set("phase", {OptionList{{std::int64_t{3}, ""}}, "--set phase"});
  EXPECT_THAT(error_of([&] { (void)root.children("phase"); }), HasSubstr("expected a list of sections, as in [[phase]]"));
}

TEST(Options, WhatWasNotSaidIsNotSaved) {
  Section root;
  std::optional<bool> decay;
  root.bind("decay", decay, "");
  EXPECT_FALSE(decay.has_value());
  EXPECT_EQ(root.resolved(), "");
  root.set("decay", {false, "job.toml:2"});
  root.bind("decay", decay, "");
  EXPECT_EQ(decay, false);
  EXPECT_EQ(root.resolved(), "decay = false\n");
}

TEST(Options, TextsAreSavedSoThatTheyCanBeRead) {
  Section root;
  std::string text = "a\"b\\c\n\t\x01\x7f\xc3\xbc";
  root.bind("text", text, "");
  EXPECT_EQ(root.resolved(), "text = \"a\\\"b\\\\c\\u000a\\u0009\\u0001\\u007f\xc3\xbc\"\n");
}

TEST(Options, ATextTakesANumberOfTheCommandLineAsItWasWritten) {
  Section root;
  root.set("name", {std::int64_t{7}, "--set name", "007"});
  root.set("other", {std::int64_t{7}, "job.toml:1"});
  std::string name, other;
  root.bind("name", name, "");
  EXPECT_EQ(name, "007");
  EXPECT_THAT(error_of([&] { root.bind("other", other, ""); }), HasSubstr("expected a text in quotes"));
}

TEST(Options, PathsAreTakenAsAShellTakesThem) {
  const testing::TemporaryFolder folder;
  const std::string odd = folder.file("$HOME");
  testing::write_bytes(odd, "");
  const auto path = [](const std::string& written) {
    Section root("data");
    root.take_variables_from([](const std::string& name) -> std::optional<std::string> {
      if (name == "HOME") return "/home/me";
      if (name == "EMPTY") return "";
      return name == "SET_1" ? std::optional<std::string>("/set") : std::nullopt;
    });
    root.set("file", {written, "job.toml:9"});
    std::string file;
    const std::string error = error_of([&] { root.bind_path("file", file, ""); });
    if (error != "no error") return error;
    EXPECT_EQ(root.resolved(), "file = \"" + file + "\"\n");
    return file;
  };
  EXPECT_EQ(path("/data/set"), "/data/set");
  EXPECT_EQ(path("~"), "/home/me");
  EXPECT_EQ(path("~/data"), "/home/me/data");
  EXPECT_EQ(path("$SET_1/a"), "/set/a");
  EXPECT_EQ(path("a${SET_1}b$EMPTY"), "a/setb");
  EXPECT_EQ(path("5$"), "5$");
  EXPECT_EQ(path("a~b$/c"), "a~b$/c");
  EXPECT_EQ(path(odd), odd) << "what exists as it is written is that file";
  EXPECT_EQ(path("$NIX/a"), "job.toml:9: data.file = \"$NIX/a\": the environment has no variable NIX");
  EXPECT_EQ(path("~you/a"), "job.toml:9: data.file = \"~you/a\": ~ is your home folder; write that of somebody else as it is");
  EXPECT_EQ(path("${SET_1"), "job.toml:9: data.file = \"${SET_1\": expected ${NAME}");
  EXPECT_EQ(path("${}"), "job.toml:9: data.file = \"${}\": expected ${NAME}");
}

TEST(Options, PathsOfAListAreTakenEachByItself) {
  Section root;
  root.take_variables_from([](const std::string& name) -> std::optional<std::string> { return "/" + name; });
  root.add_child_entry("data").set("files", {OptionList{{std::string("~/a"), ""}, {std::string("b"), ""}}, "job.toml:2"});
  std::vector<std::string> files;
  root.child("data").bind_paths("files", files, "");
  EXPECT_EQ(files, (std::vector<std::string>{"/HOME/a", "b"}));
}

}  // namespace
}  // namespace cohort
