#include "cohort/base/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cohort/base/error.hpp"

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

}  // namespace
}  // namespace cohort
