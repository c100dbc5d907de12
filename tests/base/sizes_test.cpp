#include "base/sizes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <limits>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/about.hpp"
#include "cohort/base/error.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using testing::error_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Sizes, WhatDoesNotFitIsAnErrorThatNamesTheParts) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(product_of({{"a", 3}, {"b", 5}}), 15);
  EXPECT_EQ(product_of({{"a", kMost}, {"b", 1}}), kMost);
  EXPECT_EQ(sum_of({{"a", kMost - 1}, {"b", 1}}), kMost);
  EXPECT_EQ(error_of([&] { (void)product_of({{"train.accumulate", 4}, {"data.batch", kMost / 2}}); }),
            "train.accumulate (4) times data.batch (4611686018427387903) is more than a whole number of 64 bits holds: choose smaller ones");
  EXPECT_EQ(error_of([&] { (void)sum_of({{"a", kMost}, {"b", 0}, {"c", 1}}); }),
            "a (9223372036854775807) plus b (0) plus c (1) is more than a whole number of 64 bits holds: choose smaller ones");
}

TEST(About, WhatTheSystemRefusesSaysWhatItWasFor) {
  const auto text = [](auto throws) { return error_of([&] { about("reading a.csv", throws); }); };
  EXPECT_EQ(text([] { fail(Code::data_loss, "line 3 is torn"); }), "reading a.csv: line 3 is torn");
  EXPECT_THAT(text([] { throw std::bad_alloc(); }), AllOf(HasSubstr("reading a.csv: out of memory: this process has asked for "), HasSubstr(" GiB")));
  EXPECT_THAT(text([] { throw std::length_error("vector"); }), HasSubstr("reading a.csv: out of memory"));
  EXPECT_THAT(text([] { throw std::system_error(EAGAIN, std::generic_category()); }),
              HasSubstr("reading a.csv: the system starts no further thread (Resource temporarily unavailable): the limit of the user (ulimit -u)"));
  EXPECT_THAT(text([] { throw std::system_error(EMFILE, std::generic_category()); }), HasSubstr("see ulimit -n"));
  EXPECT_THAT(text([] { std::filesystem::create_directory("/proc/nix"); }), HasSubstr("reading a.csv: /proc/nix: "));
  EXPECT_THAT(text([] { throw std::runtime_error("own words"); }), HasSubstr("reading a.csv: own words"));
  EXPECT_EQ(about("nothing", [] { return 7; }), 7);
}

TEST(About, AnErrorKeepsItsCodeAndPlace) {
  try {
    about("outside", [] { fail(Code::data_loss, "inside"); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::data_loss);
    EXPECT_THAT(location_text(error.where()), HasSubstr("sizes_test.cpp"));
  }
}

}  // namespace
}  // namespace cohort
