// Disks that are full, broken or without links: whatever fails while a checkpoint is written, `latest` is an intact one, and no
// success is claimed that is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "checkpoint/checkpoint_folder.hpp"
#include "checkpoint/pieces_state.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "support/disk_faults.hpp"
#include "support/patience.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using namespace cohort::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const ThreadRanksOptions kBounded{.timeout = kHung};

/// Thousands of flushes: in memory they cost nothing, where there is such a disk.
const bool kInMemory = fs::is_directory("/dev/shm") && setenv("TMPDIR", "/dev/shm", 0) == 0;

/// `ranks` threads, 0: one process that has the whole state, save the states of these seeds as these steps; an error, or none.
std::string save(int ranks, const fs::path& folder, std::initializer_list<int> seeds, int keep = 1, bool best = false) {
  const auto write = [&](Communicator* communicator) {
    CheckpointWriter writer(folder, keep, "epochs = 6\n", Log("", LogLevel::off), communicator);
    PiecesState state(communicator != nullptr ? PiecesState::Setting{.rank = communicator->rank(), .ranks = communicator->size()}
                                              : PiecesState::Setting{.pieces = false});
    Stateful* parts[] = {&state};
    for (const int seed : seeds) {
      state.fill(static_cast<std::uint64_t>(seed));
      writer.save(parts, seed, best);
    }
    writer.close();
  };
  return error_of([&] {
    if (ranks == 0) write(nullptr);
    else run_as_threads(ranks, [&](Communicator& communicator) { write(&communicator); }, kBounded);
  });
}

/// The step of the checkpoint that a path means, which has the state of that seed; or why it cannot be loaded.
std::string step_at(const fs::path& path) {
  PiecesState state({.pieces = false});
  CheckpointHeader header;
  const std::string error = error_of([&] { header = load_into(state, path); });
  if (!error.empty()) return error;
  return state.is(static_cast<std::uint64_t>(header.step)) ? std::to_string(header.step) : "another state than that of step " + std::to_string(header.step);
}

/// The step before the one at which something fails is there; nothing fails while it is looked at.
void fail_at_every_call(int ranks, int error) {
  std::map<std::string, int> failures;
  long calls = 1;
  for (long call = 1; call <= calls; ++call) {
    const TemporaryFolder folder;
    ASSERT_EQ(save(ranks, folder.path(), {1}), "");
    set_disk_faults({.folder = folder.path().string(), .call = call, .error = error});
    const std::string told = save(ranks, folder.path(), {2});
    const DiskCalls seen = end_disk_faults();
    calls = std::max(calls, seen.calls);
    const std::string where = seen.failed + " (call " + std::to_string(call) + "): " + std::strerror(error) + "; told: " + told;
    const std::string there = step_at(folder.path());
    ASSERT_TRUE(there == "2" || (there == "1" && !told.empty())) << there << "; " << where;
    ASSERT_TRUE(error != kHalf || told.empty()) << where;              // half a write is no error
    ++failures[seen.failed.substr(0, seen.failed.find(' ')) + (told.empty() ? " without harm" : " told")];
    ASSERT_EQ(save(ranks, folder.path(), {3}), "") << where;           // and there is no trace of it
    ASSERT_EQ(step_at(folder.path()), "3") << where;
  }
  for (const auto& [what, times] : failures) std::cout << "  " << what << ": " << times << "\n";
  EXPECT_GT(failures[error == kHalf || error == EINTR ? "pwrite without harm" : "pwrite told"], 0) << "no write has failed: the test proves nothing";
}

TEST(FailingDisk, FullAtAnyCall) { fail_at_every_call(0, ENOSPC); }
TEST(FailingDisk, BrokenAtAnyCall) { fail_at_every_call(0, EIO); }
TEST(FailingDisk, TakesHalfOfAnyWrite) { fail_at_every_call(0, kHalf); }
TEST(FailingDisk, LosesAnyWriteWithoutAWord) { fail_at_every_call(0, kLost); }
TEST(FailingDisk, InterruptedAtAnyCall) { fail_at_every_call(0, EINTR); }
TEST(FailingDisk, FullAtAnyCallOfSeveralRanks) { fail_at_every_call(2, ENOSPC); }
TEST(FailingDisk, BrokenAtAnyCallOfSeveralRanks) { fail_at_every_call(3, EIO); }

/// Full from some call on, and for good.
TEST(FailingDisk, StaysFull) {
  for (const int ranks : {0, 2}) {
    long calls = 1;
    for (long call = 1; call <= calls; call += 3) {
      const TemporaryFolder folder;
      ASSERT_EQ(save(ranks, folder.path(), {1}), "");
      set_disk_faults({.folder = folder.path().string(), .call = call, .error = ENOSPC, .and_later = true});
      const std::string told = save(ranks, folder.path(), {2});
      calls = std::max(calls, end_disk_faults().calls);
      ASSERT_NE(told, "") << call;
      const std::string there = step_at(folder.path());
      ASSERT_TRUE(there == "1" || there == "2") << there << "; " << call;
    }
  }
}

TEST(FailingDisk, TheErrorNamesTheFileAndTheReason) {
  const TemporaryFolder folder;
  set_disk_faults({.folder = folder.path().string(), .call = 1, .error = ENOSPC, .and_later = true, .only = "pwrite"});
  const std::string told = save(0, folder.path(), {7});
  end_disk_faults();
  EXPECT_EQ(told, folder.file(".writing-step-0000000007.h5") + ": cannot write: No space left on device");
  EXPECT_THAT(list_checkpoints(folder.path()), IsEmpty());
}

// -------------------------------------------------------------------------------------------------------------------------------

TEST(WithoutLinks, ATextFileSaysTheSame) {
  for (const int ranks : {0, 2}) {
    for (const int error : {EPERM, ENOTSUP, ENOSYS}) {
      const TemporaryFolder folder;
      set_disk_faults({.folder = folder.path().string(), .call = 1, .error = error, .and_later = true, .only = "symlink"});
      EXPECT_EQ(save(ranks, folder.path(), {1, 2}, 1, true), "");
      EXPECT_EQ(save(ranks, folder.path(), {3, 4, 5}), "");
      end_disk_faults();
      EXPECT_EQ(read_bytes(folder.file("latest")), "step-0000000005.h5\n");
      EXPECT_EQ(read_bytes(folder.file("best")), "step-0000000002.h5\n");
      EXPECT_EQ(list_checkpoints(folder.path()).size(), 2u) << "the best one stays";
      for (const fs::path& path : {folder.path(), folder.path() / "latest"}) EXPECT_EQ(step_at(path), "5");
      EXPECT_EQ(step_at(folder.path() / "best"), "2");
      EXPECT_EQ(describe_checkpoint(folder.path() / "best").header.step, 2);
      EXPECT_EQ(save(ranks, folder.path(), {6}), "");                       // with links again
      EXPECT_TRUE(fs::is_symlink(folder.path() / "latest"));
      EXPECT_EQ(step_at(folder.path()), "6");
    }
  }
}

/// What `find_latest` says to people.
std::string warning_of(const fs::path& folder, std::optional<fs::path>& found) {
  std::string said;
  found = find_latest(folder, Log("", LogLevel::info, [&](LogLevel level, std::string_view line) {
    EXPECT_EQ(level, LogLevel::warning);
    said += line;
  }));
  return said;
}

TEST(WithoutLatest, TheNewestIntactOneIsTakenAndThatIsSaid) {
  const std::map<std::string, std::function<void(const fs::path&)>> losses = {
      {"removed", [](const fs::path& latest) { fs::remove(latest); }},
      {"a dangling link", [](const fs::path& latest) { fs::remove(latest), fs::create_symlink("step-0000000009.h5", latest); }},
      {"an old text", [](const fs::path& latest) { fs::remove(latest), write_bytes(latest, "step-0000000009.h5\r\n"); }},
      {"empty", [](const fs::path& latest) { fs::remove(latest), write_bytes(latest, ""); }},
      {"nonsense", [](const fs::path& latest) { fs::remove(latest), write_bytes(latest, "../../etc/passwd\n"); }}};
  for (const int ranks : {0, 3}) {
    for (const auto& [what, lose] : losses) {
      const TemporaryFolder folder;
      ASSERT_EQ(save(ranks, folder.path(), {1, 2, 3}, 3), "");
      lose(folder.path() / "latest");
      std::optional<fs::path> found;
      EXPECT_THAT(warning_of(folder.path(), found), HasSubstr("the newest intact checkpoint is " + folder.file("step-0000000003.h5"))) << what;
      EXPECT_EQ(found, folder.path() / "step-0000000003.h5") << what;
      for (const fs::path& path : {folder.path(), folder.path() / "latest"}) EXPECT_EQ(step_at(path), "3") << what;
      const fs::path damaged = folder.path() / (ranks == 0 ? "step-0000000003.h5" : "step-0000000003.rank-1.h5");
      fs::resize_file(damaged, fs::file_size(damaged) - 100);
      EXPECT_EQ(step_at(folder.path()), "2") << what;
      EXPECT_EQ(describe_checkpoint(folder.path()).header.step, 2) << what;
      EXPECT_EQ(save(ranks, folder.path(), {4}, 3), "");
      EXPECT_EQ(warning_of(folder.path(), found), "") << what;
      EXPECT_EQ(found, folder.path() / "step-0000000004.h5") << what;
    }
  }
}

TEST(WithoutLatest, ACopyThatFollowedTheLinksIsWhatItIs) {
  const TemporaryFolder folder;
  ASSERT_EQ(save(0, folder.path() / "there", {1, 2}, 2), "");
  fs::copy(folder.path() / "there", folder.path() / "copy", fs::copy_options::recursive);   // follows links
  ASSERT_FALSE(fs::is_symlink(folder.path() / "copy" / "latest"));
  EXPECT_EQ(step_at(folder.path() / "copy"), "2");
}

TEST(WithoutLatest, NothingIsNothing) {
  const TemporaryFolder folder;
  EXPECT_EQ(find_latest(folder.path()), std::nullopt);
  EXPECT_EQ(find_latest(folder.path() / "no such"), std::nullopt);
  write_bytes(folder.file("step-0000000003.h5"), "damaged");
  EXPECT_EQ(find_latest(folder.path()), std::nullopt);
}

/// Whoever wants the best one does not want any other.
TEST(WithoutLatest, BestIsNotReplaced) {
  const TemporaryFolder folder;
  ASSERT_EQ(save(0, folder.path(), {1}, 1, true), "");
  fs::remove(folder.path() / "best");
  EXPECT_THAT(step_at(folder.path() / "best"), HasSubstr("best: no such file; an intact checkpoint is " + folder.file("step-0000000001.h5")));
}

}  // namespace
}  // namespace cohort
