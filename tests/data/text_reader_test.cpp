// Windows of text: which bytes a sample has, and that what is held out never enters training.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cohort/data/reader.hpp"
#include "data/files.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<const Reader> open(Options options) {
  auto reader = open_reader(options.with("reader", "text").section());
  options.section().finish();
  return reader;
}

struct Window {
  std::vector<std::int32_t> input, target;
};

Window window(const Reader& reader, std::uint32_t sample) {
  const auto context = static_cast<std::size_t>(reader.fields()[0].shape[0]);
  Window w{std::vector<std::int32_t>(context), std::vector<std::int32_t>(context)};
  const std::uint32_t samples[] = {sample};
  void* const buffers[] = {w.input.data(), w.target.data()};
  reader.read(samples, buffers);
  return w;
}

TEST(TextReader, ASampleIsAWindowAndItsSuccessors) {
  const TemporaryFolder folder;
  write_bytes(folder.file("t"), std::string("abc\n\xc3\xa9xyz"));
  const auto reader = open(Options().with("files", {folder.file("t").c_str()}).with("context", 3));
  ASSERT_EQ(reader->size(), 2);                        // bytes 0–3 and 3–6; 6–9 would need a tenth byte
  EXPECT_THAT(window(*reader, 0).input, ElementsAre('a', 'b', 'c'));
  EXPECT_THAT(window(*reader, 0).target, ElementsAre('b', 'c', '\n'));
  EXPECT_THAT(window(*reader, 1).input, ElementsAre('\n', 0xc3, 0xa9));   // bytes above 127 are no negative numbers
  const auto dense = open(Options().with("files", {folder.file("t").c_str()}).with("context", 3).with("stride", 1));
  ASSERT_EQ(dense->size(), 6);
  EXPECT_THAT(window(*dense, 5).target, ElementsAre('x', 'y', 'z'));
}

/// Positions in the text of all bytes of all windows; the text must not repeat within three bytes.
std::set<std::size_t> covered(const Reader& reader, const std::string& text) {
  std::set<std::size_t> places;
  for (std::uint32_t i = 0; i < reader.size(); ++i) {
    const Window w = window(reader, i);
    std::string bytes(1, static_cast<char>(w.input[0]));
    for (const std::int32_t byte : w.target) bytes += static_cast<char>(byte);
    const std::size_t at = text.find(bytes);
    EXPECT_NE(at, std::string::npos) << "window " << i << " is no part of the text";
    for (std::size_t k = 0; k < bytes.size(); ++k) places.insert(at + k);
  }
  return places;
}

TEST(TextReader, WhatIsHeldOutIsNeverTrainedOnAndNothingIsLost) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += {static_cast<char>('A' + i / 40), static_cast<char>('a' + i % 40), static_cast<char>('0' + i % 7)};
  write_bytes(folder.file("t"), text);
  for (const int block : {100, 101, 1024, 5000}) {
    const auto part = [&](const char* name) {
      return covered(*open(Options().with("files", {folder.file("t").c_str()}).with("context", 4).with("stride", 1).with("part", name)
                               .with("held_out", 0.25).with("block", block)), text);
    };
    const auto train = part("train"), validation = part("validation");
    for (const std::size_t place : validation) ASSERT_FALSE(train.contains(place)) << "byte " << place << " is in both parts, block " << block;
    EXPECT_GE(train.size() + validation.size(), text.size() - text.size() / static_cast<std::size_t>(block) * 4 - 8) << block;
    EXPECT_NEAR(static_cast<double>(validation.size()) / static_cast<double>(text.size()), 0.25, 0.02) << block;
    EXPECT_EQ(part("all").size(), text.size());
  }
}

TEST(TextReader, PatternsStandForSortedFilesButForThoseExcluded) {
  const TemporaryFolder folder;
  write_bytes(folder.file("b.txt"), "bbbb");
  write_bytes(folder.file("a.txt"), gzip("aaaa"));
  write_bytes(folder.file("a.dat"), "dddd");
  const std::string all = folder.file("*");
  const auto reader = open(Options().with("files", {all.c_str()}).with("exclude", {"*.dat"}).with("context", 7));
  EXPECT_THAT(window(*reader, 0).input, ElementsAre('a', 'a', 'a', 'a', 'b', 'b', 'b'));
}

TEST(TextReader, RefusesWhatGivesNoSample) {
  const TemporaryFolder folder;
  write_bytes(folder.file("short"), "abc");
  const std::string none = folder.file("*.nix");
  EXPECT_THAT(error_of([&] { open(Options().with("files", {folder.file("short").c_str()}).with("context", 3)); }),
              HasSubstr("the 3 bytes of text have no window of 4 bytes in part 'all'"));
  EXPECT_THAT(error_of([&] { open(Options().with("files", {folder.file("short").c_str()}).with("context", 1).with("part", "validation")); }),
              HasSubstr("in part 'validation'"));
  EXPECT_THAT(error_of([&] { open(Options().with("files", {none.c_str()})); }), HasSubstr("no file matches"));
  EXPECT_THAT(error_of([&] { open(Options().with("files", {folder.file("absent").c_str()})); }), HasSubstr("no such file"));
  EXPECT_THAT(error_of([&] { open(Options()); }), HasSubstr("needs files"));
}

TEST(TextReader, AFileWhoseNameLooksLikeAPatternIsThatFile) {
  const TemporaryFolder folder;
  write_bytes(folder.file("a[1].txt"), "abcd");
  write_bytes(folder.file("a1.txt"), "wxyz");
  const auto first = [&](const std::string& file) {
    return window(*open(Options().with("files", {folder.file(file).c_str()}).with("context", 3)), 0).input;
  };
  EXPECT_THAT(first("a[1].txt"), ElementsAre('a', 'b', 'c'));
  EXPECT_THAT(first("a[1-9].txt"), ElementsAre('w', 'x', 'y'));
}

}  // namespace
}  // namespace cohort
