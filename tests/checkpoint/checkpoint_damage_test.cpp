// Damaged checkpoints are refused, whatever the damage; and none is ever half written, however the writer dies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <iterator>
#include <random>
#include <thread>

#include "checkpoint/sample_state.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using namespace cohort::testing;
using ::testing::HasSubstr;

int setting(const char* name, int otherwise) {
  const char* given = std::getenv(name);
  return given == nullptr ? otherwise : std::atoi(given);
}

/// A generator that differs in every run; COHORT_TEST_SEED repeats one.
std::mt19937 generator() {
  const auto seed = static_cast<unsigned>(setting("COHORT_TEST_SEED", static_cast<int>(std::random_device{}() >> 1)));
  std::cout << "COHORT_TEST_SEED=" << seed << "\n";
  return std::mt19937(seed);
}

std::size_t below(std::mt19937& random, std::size_t n) {
  return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
}

/// One intact checkpoint of step 1 and another, of step 2, to be damaged.
struct Damaged {
  Damaged() {
    CheckpointWriter writer(folder.path(), 5, "epochs = 6\n");
    Stateful* parts[] = {&state};
    writer.save(parts, 1);
    writer.save(parts, 2);
    writer.close();
    bytes = read_bytes(folder.file("step-0000000002.h5"));
    bits = state.bits();
  }

  /// The error of loading `changed` in place of step 2; empty if it loads, which it may with the saved state only.
  std::string load(const std::string& changed) {
    write_bytes(folder.file("step-0000000002.h5"), changed);
    SampleState loaded(7);
    const std::string before = loaded.bits();
    Stateful* parts[] = {&loaded};
    CheckpointHeader header{.path = {}, .step = 2, .configuration = "epochs = 6\n"};
    const std::string error = error_of([&] { header = load_checkpoint(folder.path(), parts); });
    EXPECT_EQ(loaded.bits(), error.empty() ? bits : before) << error;
    EXPECT_EQ(header.step, 2);
    EXPECT_EQ(header.configuration, "epochs = 6\n");
    return error;
  }

  TemporaryFolder folder;
  SampleState state{3};
  std::string bytes, bits;
};

std::ptrdiff_t open_files() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

TEST(DamagedCheckpoint, FlippedBytesAreNoticed) {
  Damaged damaged;
  ASSERT_EQ(damaged.load(damaged.bytes), "");
  const std::ptrdiff_t open_before = open_files();
  std::mt19937 random = generator();
  int unnoticed = 0;
  const int trials = setting("COHORT_TEST_FLIPS", 1000);
  for (int trial = 0; trial < trials; ++trial) {
    std::string changed = damaged.bytes;
    const std::size_t at = below(random, changed.size());
    changed[at] = static_cast<char>(changed[at] ^ static_cast<int>(1 + below(random, 255)));
    const std::string error = damaged.load(changed);
    if (error.empty()) ++unnoticed;
    else ASSERT_THAT(error, HasSubstr("/step-0000000001.h5")) << "byte " << at << ": " << error;   // what may be had instead
  }
  // Only bytes that belong to nothing may pass, and then the state is right: `load` checks it.
  std::cout << unnoticed << " of " << trials << " flips hit nothing\n";
  EXPECT_LE(unnoticed, trials / 4);
  EXPECT_EQ(open_files(), open_before) << "a refused file stays open";
}

TEST(DamagedCheckpoint, CutAtManyLengths) {
  Damaged damaged;
  for (std::size_t length = 0; length < damaged.bytes.size(); length += length < 200 ? 1 : 97) {
    ASSERT_THAT(damaged.load(damaged.bytes.substr(0, length)), HasSubstr("step-0000000002.h5: ")) << length;
  }
  ASSERT_THAT(damaged.load(damaged.bytes.substr(0, damaged.bytes.size() - 1)),
              HasSubstr("; an intact checkpoint is " + damaged.folder.file("step-0000000001.h5")));
}

TEST(DamagedCheckpoint, BlocksOfZerosAsAfterAPowerCut) {
  Damaged damaged;
  for (std::size_t at = 0; at < damaged.bytes.size(); at += 4096) {
    std::string changed = damaged.bytes;
    const std::size_t n = std::min<std::size_t>(4096, changed.size() - at);
    changed.replace(at, n, n, '\0');
    EXPECT_NE(damaged.load(changed), "") << at;
  }
}

TEST(DamagedCheckpoint, SaysWhereNothingElseIsIntact) {
  Damaged damaged;
  write_bytes(damaged.folder.file("step-0000000001.h5"), damaged.bytes.substr(0, 3000));
  EXPECT_THAT(damaged.load(damaged.bytes.substr(0, 3000)), HasSubstr("; there is no other intact checkpoint beside it"));
}

/// Runs `body` in a child process; its number.
pid_t in_child(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child != 0) return child;
  try {
    body();
    _exit(0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
    _exit(1);
  }
}

bool unfinished_in(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(".writing-")) return true;
  }
  return false;
}

TEST(KilledWriter, LatestAndBestAlwaysLoad) {
  const TemporaryFolder folder;
  std::mt19937 random = generator();
  SampleState state(0, 2000);
  Stateful* parts[] = {&state};
  {
    CheckpointWriter first(folder.path(), 2, "");
    first.save(parts, 0, true);
  }
  std::int64_t step = 0;
  int interrupted = 0;
  std::size_t most_files = 0;
  const int kills = setting("COHORT_TEST_KILLS", 30);
  for (int kill_number = 0; kill_number < kills; ++kill_number) {
    const pid_t child = in_child([&] {
      CheckpointWriter writer(folder.path(), 2, "");
      for (std::int64_t next = step + 1;; ++next) {
        state.fill(static_cast<std::uint64_t>(next));
        writer.save(parts, next, next % 3 == 0);
      }
    });
    ASSERT_GT(child, 0);
    std::this_thread::sleep_for(std::chrono::microseconds(below(random, 60000)));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    interrupted += unfinished_in(folder.path()) ? 1 : 0;

    SampleState loaded(1, 2000), expected(0, 2000);
    Stateful* into[] = {&loaded};
    for (const char* link : {"best", "latest"}) {
      const CheckpointHeader header = load_checkpoint(folder.path() / link, into);
      expected.fill(static_cast<std::uint64_t>(header.step));
      ASSERT_EQ(loaded.bits(), expected.bits()) << link << " after kill " << kill_number;
      ASSERT_GE(header.step, std::string_view(link) == "latest" ? step : 0);
      step = std::max(step, header.step);
    }
    // Each kill between a new file and the removal of old ones may leave one more; the next complete save removes them all.
    most_files = std::max(most_files, list_checkpoints(folder.path()).size());
    if (kill_number % 5 != 4) continue;
    {
      CheckpointWriter writer(folder.path(), 2, "");
      state.fill(static_cast<std::uint64_t>(++step));
      writer.save(parts, step);
      writer.close();
    }
    ASSERT_LE(list_checkpoints(folder.path()).size(), 3u) << "after kill " << kill_number;   // the two newest and the best
    ASSERT_FALSE(unfinished_in(folder.path())) << "after kill " << kill_number;
  }
  std::cout << kills << " kills, " << step << " steps, " << interrupted << " unfinished files, at most "
            << most_files << " checkpoints\n";
  EXPECT_GT(step, 0);
  if (kills >= 100) {   // with few kills on a slow machine none may come in the middle of a write
    EXPECT_GT(interrupted, 0) << "no kill came in the middle of a write: the test proves nothing";
  }
}

TEST(FullDisk, IsAnErrorAndTheOldCheckpointStays) {
  const TemporaryFolder folder;
  SampleState state(5, 2000);
  Stateful* parts[] = {&state};
  {
    CheckpointWriter writer(folder.path(), 1, "");
    writer.save(parts, 1);
  }
  const pid_t child = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);   // a file that may not grow: write() fails as on a full disk
    const rlimit limit{100'000, 100'000};
    check(setrlimit(RLIMIT_FSIZE, &limit) == 0, Code::internal, "setrlimit");
    CheckpointWriter writer(folder.path(), 1, "");
    writer.save(parts, 2);
    const std::string error = error_of([&] { writer.close(); });
    check(error.find(".writing-step-0000000002.h5") != std::string::npos, Code::internal, "the error was: " + error);
  });
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_FALSE(unfinished_in(folder.path()));
  SampleState loaded(0, 2000);
  Stateful* into[] = {&loaded};
  EXPECT_EQ(load_checkpoint(folder.path(), into).step, 1);
  EXPECT_EQ(loaded.bits(), state.bits());
}

}  // namespace
}  // namespace cohort
