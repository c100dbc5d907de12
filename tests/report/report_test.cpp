#include "cohort/report/metrics_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <thread>
#include <vector>

#include "base/disk_file.hpp"
#include "report/output_file.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

MetricsStart start_at(double time, std::int64_t after_step = -1) {
  return {.after_step = after_step, .wall_time = [time] { return time; }, .host = "node7"};
}

// ---- An independent reader of event files: bit-at-a-time CRC, and a decoder of any protocol buffers message. ----

std::uint32_t slow_crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}
std::uint32_t masked(std::string_view bytes) {
  const std::uint32_t crc = slow_crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}
template <class T>
T load(std::string_view& bytes) {
  T value;
  check(bytes.size() >= sizeof value, Code::data_loss, "cut");
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

std::vector<std::string_view> records(std::string_view file) {
  std::vector<std::string_view> result;
  while (!file.empty()) {
    const std::string_view length_bytes = file.substr(0, 8);
    const auto length = load<std::uint64_t>(file);
    check(load<std::uint32_t>(file) == masked(length_bytes), Code::data_loss, "CRC of a length");
    check(file.size() >= length, Code::data_loss, "cut");
    result.push_back(file.substr(0, length));
    file.remove_prefix(length);
    check(load<std::uint32_t>(file) == masked(result.back()), Code::data_loss, "CRC of contents");
  }
  return result;
}

struct WireField {
  std::uint32_t number, type;
  std::uint64_t bits;            ///< of a number
  std::string_view bytes;        ///< of a text or message
};
std::uint64_t varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = load<unsigned char>(bytes);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}
std::vector<WireField> fields(std::string_view message) {
  std::vector<WireField> result;
  while (!message.empty()) {
    const std::uint64_t key = varint(message);
    WireField field{static_cast<std::uint32_t>(key >> 3), static_cast<std::uint32_t>(key & 7), 0, {}};
    if (field.type == 0) field.bits = varint(message);
    else if (field.type == 1) field.bits = load<std::uint64_t>(message);
    else if (field.type == 5) field.bits = load<std::uint32_t>(message);
    else {
      check(field.type == 2, Code::data_loss, "wire type");
      const std::uint64_t length = varint(message);
      check(length <= message.size(), Code::data_loss, "cut");
      field.bytes = message.substr(0, length);
      message.remove_prefix(length);
    }
    result.push_back(field);
  }
  return result;
}

struct Event {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string file_version, tag;
  float value = 0;
  int session_status = -1;
};
template <class To, class From>
To bits_as(From bits) {
  return std::bit_cast<To>(bits);
}
std::vector<Event> events(const std::string& file) {
  std::vector<Event> result;
  for (const std::string_view record : records(file)) {
    Event event;
    for (const WireField& field : fields(record)) {
      if (field.number == 1 && field.type == 1) event.wall_time = bits_as<double>(field.bits);
      else if (field.number == 2 && field.type == 0) event.step = static_cast<std::int64_t>(field.bits);
      else if (field.number == 3 && field.type == 2) event.file_version = field.bytes;
      else if (field.number == 7 && field.type == 2) event.session_status = static_cast<int>(fields(field.bytes).at(0).bits);
      else if (field.number == 5 && field.type == 2) {
        for (const WireField& value : fields(field.bytes)) {
          for (const WireField& part : fields(value.bytes)) {
            if (part.number == 1 && part.type == 2) event.tag = part.bytes;
            if (part.number == 2 && part.type == 5) event.value = bits_as<float>(static_cast<std::uint32_t>(part.bits));
          }
        }
      } else {
        ADD_FAILURE() << "field " << field.number << " of type " << field.type;
      }
    }
    result.push_back(event);
  }
  return result;
}

TEST(Tensorboard, AnIndependentReaderGetsEveryValueBack) {
  const TemporaryFolder folder;
  const auto writer = tensorboard_writer(folder.path() / "run" / "train", start_at(1712345678.25));
  for (std::int64_t step = 0; step < 300; ++step) writer->scalar("loss", step, 1.0 / static_cast<double>(step + 1));
  writer->scalar("validation/accuracy", std::int64_t{1} << 40, 0.875);
  writer->scalar("bad", 400, std::numeric_limits<double>::quiet_NaN());
  writer->flush();   // seen by others while the writer lives
  const auto got = events(read_bytes(folder.file("run/train/events.out.tfevents.1712345678.node7")));
  ASSERT_EQ(got.size(), 303u);
  EXPECT_EQ(got[0].file_version, "brain.Event:2");
  for (std::int64_t step = 0; step < 300; ++step) {
    const Event& event = got[static_cast<std::size_t>(step) + 1];
    EXPECT_EQ(event.step, step);
    EXPECT_EQ(event.tag, "loss");
    EXPECT_EQ(event.value, static_cast<float>(1.0 / static_cast<double>(step + 1)));
    EXPECT_EQ(event.wall_time, 1712345678.25);
  }
  EXPECT_EQ(got[301].tag, "validation/accuracy");
  EXPECT_EQ(got[301].step, std::int64_t{1} << 40);
  EXPECT_TRUE(std::isnan(got[302].value));
}

/// The first bytes as they stand in the files that TensorFlow writes: length 24, its masked CRC, then the version event.
TEST(Tensorboard, BeginsAsTensorFlowsOwnFilesDo) {
  const TemporaryFolder folder;
  tensorboard_writer(folder.path(), start_at(1))->flush();
  const std::string bytes = read_bytes(folder.file("events.out.tfevents.1.node7"));
  EXPECT_THAT(bytes, StartsWith(std::string("\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09", 13)));
  EXPECT_EQ(bytes.substr(21, 15), "\x1a\x0d" "brain.Event:2");
  EXPECT_EQ(bytes.size(), 12u + 24u + 4u);
}

TEST(Tensorboard, AResumedRunHasAFileOfItsOwnThatWithdrawsLaterSteps) {
  const TemporaryFolder folder;
  {
    const auto first = tensorboard_writer(folder.path(), start_at(50));
    first->scalar("loss", 7, 1.0);
  }
  const std::string before = read_bytes(folder.file("events.out.tfevents.50.node7"));
  {
    const auto second = tensorboard_writer(folder.path(), start_at(50, 5));   // the same second
    second->scalar("loss", 6, 0.5);
  }
  EXPECT_EQ(read_bytes(folder.file("events.out.tfevents.50.node7")), before);
  const auto got = events(read_bytes(folder.file("events.out.tfevents.50.node7.1")));
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[1].session_status, 1);   // SessionLog.START: steps from 6 on are dropped
  EXPECT_EQ(got[1].step, 6);
  EXPECT_EQ(got[2].value, 0.5f);
}

TEST(JsonLines, OneObjectPerStep) {
  const TemporaryFolder folder;
  const std::string path = folder.file("deep/metrics.jsonl");
  const auto writer = json_lines_writer(path, start_at(1712345678.25));
  writer->scalar("loss", 1, 0.1);
  writer->scalar("epoch", 1, 0);
  writer->scalar("loss", 2, std::numeric_limits<double>::quiet_NaN());
  writer->scalar("grad \"norm\"\n\\", 2, std::numeric_limits<double>::infinity());
  writer->scalar("rate", 2, 1e-7);
  writer->scalar("rate", 2, 2e-7);
  writer->flush();
  EXPECT_EQ(read_bytes(path),
            "{\"step\":1,\"time\":1712345678.250,\"loss\":0.1,\"epoch\":0}\n"
            "{\"step\":2,\"time\":1712345678.250,\"loss\":null,\"grad \\\"norm\\\"\\u000a\\\\\":null,\"rate\":2e-07}\n");
}

TEST(JsonLines, AResumedRunTakesOverAtItsStep) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.jsonl");
  const auto line = [](int step) { return "{\"step\":" + std::to_string(step) + ",\"time\":9.000,\"loss\":1}\n"; };
  const auto go_on = [&](const std::string& there, std::int64_t after_step) {
    write_bytes(path, there);
    json_lines_writer(path, start_at(9, after_step))->scalar("loss", 4, 1);
    return read_bytes(path);
  };
  EXPECT_EQ(go_on(line(1) + line(3) + line(5) + line(7), 3), line(1) + line(3) + line(4));
  EXPECT_EQ(go_on(line(1) + line(3) + line(5).substr(0, 12), 3), line(1) + line(3) + line(4)) << "torn by a crash";
  EXPECT_EQ(go_on(line(1) + line(9).substr(0, 12), -1), line(1) + line(4)) << "torn, and a fresh run after it";
  EXPECT_EQ(go_on(line(1) + line(9), -1), line(1) + line(9) + line(4)) << "a fresh run withdraws nothing";
  EXPECT_EQ(go_on(line(5) + line(7), 3), line(4));
  EXPECT_EQ(go_on(line(90) + line(2) + line(5), 3), line(90) + line(2) + line(4)) << "an older run stays";
  EXPECT_EQ(go_on("\n\nnot ours\n" + line(5), 3), "\n\nnot ours\n" + line(4));
  EXPECT_EQ(go_on("torn", 3), line(4));
  EXPECT_EQ(go_on("", 3), line(4));
}

TEST(JsonLines, AValidationThatIsMadeAgainIsWithdrawn) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.jsonl");
  const std::string two = "{\"step\":2,\"time\":9.000,\"loss\":1}\n", validation = "{\"step\":2,\"time\":9.000,\"validation/loss\":1}\n";
  for (const bool again : {false, true}) {
    write_bytes(path, two + validation + "{\"step\":3,\"time\":9.000,\"loss\":1}\n");
    MetricsStart start = start_at(9, 2);
    start.validates = again;
    json_lines_writer(path, start)->flush();
    EXPECT_EQ(read_bytes(path), again ? two : two + validation);
  }
}

TEST(MetricsWriters, WhatIsCompleteIsSeenByOthersThoughNothingFollows) {
  const TemporaryFolder folder;
  const auto lines = json_lines_writer(folder.file("m.jsonl"), start_at(9));
  const auto board = tensorboard_writer(folder.path() / "t", start_at(9));
  const auto seen = [&] {
    return !read_bytes(folder.file("m.jsonl")).empty() && events(read_bytes(folder.file("t/events.out.tfevents.9.node7"))).size() == 2;
  };
  for (MetricsWriter* writer : {lines.get(), board.get()}) {
    writer->scalar("loss", 1, 0.5);
    writer->end_step();
  }
  for (int i = 0; i < 200 && !seen(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(seen());
  lines->scalar("more", 1, 2);
  lines->flush();
  EXPECT_EQ(read_bytes(folder.file("m.jsonl")), "{\"step\":1,\"time\":9.000,\"loss\":0.5}\n{\"step\":1,\"time\":9.000,\"more\":2}\n");
}

TEST(MetricsWriters, WhatTheThreadCouldNotWriteIsTheNextError) {
  const auto full = json_lines_writer("/dev/full");
  std::string error;
  for (int step = 1; step < 200 && error.empty(); ++step) {
    error = error_of([&] {
      full->scalar("loss", step, 1);
      full->end_step();
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_THAT(error, HasSubstr("/dev/full: cannot write: No space left on device"));
}

TEST(DiskFile, AWholeFileIsReplacedAtOnce) {
  const TemporaryFolder folder;
  replace_file(folder.file("f"), "first");
  replace_file(folder.file("f"), "second");
  EXPECT_EQ(read_bytes(folder.file("f")), "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), std::filesystem::directory_iterator()), 1);
  std::filesystem::create_directories(folder.path() / "taken" / "f");
  EXPECT_THAT(error_of([&] { replace_file(folder.file("taken"), "x"); }), HasSubstr("taken: cannot rename"));
}

TEST(MetricsWriters, ErrorsNameTheFile) {
  const TemporaryFolder folder;
  write_bytes(folder.file("taken"), "a file");
  EXPECT_THAT(error_of([&] { static_cast<void>(json_lines_writer(folder.file("taken/m.jsonl"))); }),
              HasSubstr("taken/m.jsonl: cannot create"));
  EXPECT_THAT(error_of([&] { static_cast<void>(tensorboard_writer(folder.file("taken"))); }),
              HasSubstr("taken/events.out.tfevents."));
  const auto full = json_lines_writer("/dev/full");
  full->scalar("loss", 1, 1);
  EXPECT_THAT(error_of([&] { full->flush(); }), HasSubstr("/dev/full: cannot write: No space left on device"));
  const auto full_at_end = json_lines_writer("/dev/full");
  full_at_end->scalar("loss", 1, 1);
  EXPECT_THAT(error_of([&] { full_at_end->close(); }), HasSubstr("/dev/full: cannot write: No space left on device"));
}

}  // namespace
}  // namespace cohort
