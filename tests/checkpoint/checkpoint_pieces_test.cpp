// Checkpoints whose tensors the ranks keep in pieces: a file per rank and an index, whatever happens to the ranks and files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <set>
#include <thread>

#include "checkpoint/pieces_state.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "support/patience.hpp"
#include "support/python.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using namespace cohort::testing;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const ThreadRanksOptions kBounded{.timeout = testing::kHung};

int setting(const char* name, int otherwise) {
  const char* given = std::getenv(name);
  return given == nullptr ? otherwise : std::atoi(given);
}

/// Saves the state of that seed with so many ranks.
void save_with(int ranks, const fs::path& folder, std::uint64_t seed, std::int64_t step, int keep = 5) {
  run_as_threads(ranks, [&](Communicator& communicator) {
    CheckpointWriter writer(folder, keep, "epochs = 6\n", Log(), &communicator);
    save_pieces(communicator, writer, seed, step);
  }, kBounded);
}

void save_whole(const fs::path& folder, std::uint64_t seed, std::int64_t step) {
  PiecesState state({.pieces = false});
  state.fill(seed);
  Stateful* parts[] = {&state};
  CheckpointWriter writer(folder, 5, "epochs = 6\n");
  writer.save(parts, step);
  writer.close();
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return {names.begin(), names.end()};
}

/// The whole state as it is there for one rank.
bool holds(const fs::path& path, std::uint64_t seed) {
  PiecesState state({.pieces = false});
  load_into(state, path);
  return state.is(seed);
}

TEST(CheckpointInPieces, AnyRanksWriteAndAnyRanksReadPiecesOrTheWhole) {
  for (int writers = 0; writers <= 4; ++writers) {           // 0: whole
    const TemporaryFolder folder;
    for (const std::uint64_t cut : {1u, 2u}) {
      if (writers == 0) save_whole(folder.path(), cut, 3);
      else save_with(writers, folder.path(), cut, 3);
      for (int readers = 1; readers <= 4; ++readers) {
        for (int rank = 0; rank < readers; ++rank) {
          PiecesState pieces({.rank = rank, .ranks = readers, .cut = cut + 10});
          const CheckpointHeader header = load_into(pieces, folder.path());
          EXPECT_TRUE(pieces.is(cut)) << writers << " to " << readers << ", cut " << cut;
          EXPECT_EQ(header.step, 3);
          EXPECT_EQ(header.configuration, "epochs = 6\n");
          EXPECT_EQ(header.files, writers + 1);
        }
      }
      EXPECT_TRUE(holds(folder.path(), cut)) << writers << " to the whole, cut " << cut;
    }
  }
}

TEST(CheckpointInPieces, H5pyReadsOneLogicalFile) {
  const TemporaryFolder folder;
  save_with(3, folder.path() / "there", 4, 12);
  fs::rename(folder.path() / "there", folder.path() / "moved");
  for (const char* name : {"latest", "step-0000000012.h5"}) {
    const PythonRun run = run_python(COHORT_READ_CHECKPOINT " " + (folder.path() / "moved" / name).string() + " 4");
    if (WIFEXITED(run.status) && WEXITSTATUS(run.status) == 77) GTEST_SKIP() << "h5py is not installed (python3-h5py)";
    EXPECT_EQ(run.status, 0) << run.output;
    EXPECT_EQ(run.output, "read\n");
  }
}

TEST(CheckpointInPieces, IsPublishedWithoutAnotherSave) {
  const TemporaryFolder folder;
  run_as_threads(3, [&](Communicator& communicator) {
    CheckpointWriter writer(folder.path(), 1, "", Log(), &communicator);
    PiecesState state({.rank = communicator.rank(), .ranks = communicator.size()});
    state.fill(7);
    Stateful* parts[] = {&state};
    writer.save(parts, 1);
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(testing::kHung);
    while (!fs::exists(folder.path() / "latest") && std::chrono::steady_clock::now() < end) {
      writer.poll();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(holds(folder.path(), 7)) << communicator.rank();
    writer.close();
    writer.poll();                                           // nothing to do any more
    writer.close();
  }, kBounded);
}

TEST(CheckpointInPieces, IndexAndFilesStayAndGoTogether) {
  const TemporaryFolder folder;
  write_bytes(folder.file("step-0000000099.rank-0.h5"), "of an interrupted write");
  write_bytes(folder.file(".writing-step-0000000099.rank-1.h5"), "of an interrupted write");
  write_bytes(folder.file("step-12.rank-of-mine.h5"), "mine");
  run_as_threads(2, [&](Communicator& communicator) {
    CheckpointWriter writer(folder.path(), 2, "", Log(), &communicator);
    for (const std::uint64_t step : {10u, 20u, 30u, 40u}) save_pieces(communicator, writer, step, static_cast<std::int64_t>(step), step == 10);
  }, kBounded);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("best", "latest", "step-0000000010.h5", "step-0000000010.rank-0.h5", "step-0000000010.rank-1.h5",
                          "step-0000000030.h5", "step-0000000030.rank-0.h5", "step-0000000030.rank-1.h5", "step-0000000040.h5",
                          "step-0000000040.rank-0.h5", "step-0000000040.rank-1.h5", "step-12.rank-of-mine.h5"));
  EXPECT_TRUE(holds(folder.path() / "best", 10));
  // The same step again, by more ranks, then whole: other files, and the old ones go.
  save_with(3, folder.path(), 41, 40, 1);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("best", "latest", "step-0000000010.h5", "step-0000000010.rank-0.h5", "step-0000000010.rank-1.h5",
                          "step-0000000040.2.rank-0.h5", "step-0000000040.2.rank-1.h5", "step-0000000040.2.rank-2.h5",
                          "step-0000000040.h5", "step-12.rank-of-mine.h5"));
  EXPECT_TRUE(holds(folder.path(), 41));
  save_whole(folder.path(), 42, 40);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("best", "latest", "step-0000000010.h5", "step-0000000010.rank-0.h5", "step-0000000010.rank-1.h5",
                          "step-0000000040.h5", "step-12.rank-of-mine.h5"));
  EXPECT_TRUE(holds(folder.path(), 42));
}

TEST(CheckpointInPieces, AWriterOfOneRankRefusesPieces) {
  const TemporaryFolder folder;
  PiecesState state({.rank = 0, .ranks = 2});
  Stateful* parts[] = {&state};
  CheckpointWriter writer(folder.path(), 1, "");
  EXPECT_THAT(error_of([&] { writer.save(parts, 1); }), HasSubstr("'parameters/matrix' is in pieces, which takes a writer that all ranks share"));
}

TEST(CheckpointInPieces, RanksThatSaveDifferentStatesAreToldSo) {
  const TemporaryFolder folder;
  std::atomic<int> told = 0;
  run_as_threads(3, [&](Communicator& communicator) {
    CheckpointWriter writer(folder.path(), 1, "", Log(), &communicator);
    const std::string error = error_of([&] { save_pieces(communicator, writer, 1, communicator.rank() == 2 ? 6 : 5); });
    EXPECT_THAT(error, HasSubstr("ranks 0 (step 5) and 2 (step 6) save different states"));
    ++told;
  }, kBounded);
  EXPECT_EQ(told, 3);
}

TEST(CheckpointInPieces, PiecesThatDoNotCoverTheirTensorAreNotPublished) {
  const TemporaryFolder folder;
  run_as_threads(2, [&](Communicator& communicator) {
    CheckpointWriter writer(folder.path(), 1, "", Log(), &communicator);
    PiecesState state({.rank = communicator.rank(), .ranks = communicator.size(), .cut = static_cast<std::uint64_t>(communicator.rank())});
    Stateful* parts[] = {&state};
    writer.save(parts, 1);
    EXPECT_THAT(error_of([&] { writer.close(); }), HasSubstr("checkpoint: the ranks"));
  }, kBounded);
  EXPECT_THAT(names_in(folder.path()), ElementsAre());
}

/// An intact checkpoint of step 1 and one of step 2, of three ranks, to be damaged.
struct DamagedPieces {
  DamagedPieces() {
    save_with(3, folder.path(), 1, 1);
    save_with(3, folder.path(), 2, 2);
  }
  [[nodiscard]] std::string part(int rank) const { return folder.file("step-0000000002.rank-" + std::to_string(rank) + ".h5"); }
  /// The error of loading it; whole and in pieces alike, and then nothing is loaded.
  [[nodiscard]] std::string error() const {
    PiecesState whole({.pieces = false}), pieces({.rank = 1, .ranks = 2});
    const std::string error = error_of([&] { load_into(whole, folder.path()); });
    EXPECT_EQ(error_of([&] { load_into(pieces, folder.path()); }), error);
    EXPECT_TRUE(error.empty() ? whole.is(2) && pieces.is(2) : whole.untouched() && pieces.untouched()) << error;
    return error;
  }
  TemporaryFolder folder;
};

TEST(DamagedPieces, AMissingFileIsNamed) {
  for (int rank = 0; rank < 3; ++rank) {
    DamagedPieces damaged;
    ASSERT_EQ(damaged.error(), "");
    fs::rename(damaged.part(rank), damaged.folder.file("renamed.h5"));
    EXPECT_THAT(damaged.error(), AllOf(HasSubstr(damaged.part(rank) + ": is missing, and "), HasSubstr("step-0000000002.h5 needs it"),
                                       HasSubstr("; an intact checkpoint is " + damaged.folder.file("step-0000000001.h5"))));
    EXPECT_THAT(error_of([&] { static_cast<void>(describe_checkpoint(damaged.folder.path())); }), HasSubstr(damaged.part(rank) + ": is missing"));
  }
}

TEST(DamagedPieces, FlippedBytesAndCutsAreNoticed) {
  DamagedPieces damaged;
  const auto seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  int unnoticed = 0;
  const int trials = setting("COHORT_TEST_FLIPS", 40);
  for (int trial = 0; trial < trials; ++trial) {
    const std::string path = trial % 4 == 3 ? damaged.folder.file("step-0000000002.h5") : damaged.part(trial % 4);
    const std::string bytes = read_bytes(path);
    std::string changed = bytes;
    const std::size_t at = random() % bytes.size();
    changed[at] = static_cast<char>(changed[at] ^ static_cast<int>(1 + random() % 255));
    if (trial % 10 == 0) changed.resize(at);
    write_bytes(path, changed);
    const std::string error = damaged.error();
    if (error.empty()) ++unnoticed;
    else EXPECT_THAT(error, AllOf(HasSubstr(path), HasSubstr("; an intact checkpoint is " + damaged.folder.file("step-0000000001.h5")))) << at;
    write_bytes(path, bytes);
  }
  EXPECT_LE(unnoticed, trials / 2) << "only what belongs to nothing may pass, of which files this small have a lot";
  EXPECT_EQ(damaged.error(), "");
}

TEST(DamagedPieces, AFileOfAnotherCheckpointIsRefused) {
  DamagedPieces damaged;
  fs::copy_file(damaged.folder.file("step-0000000001.rank-1.h5"), damaged.part(1), fs::copy_options::overwrite_existing);
  EXPECT_THAT(damaged.error(), HasSubstr(damaged.part(1) + ": is a part of another checkpoint than "));
  const TemporaryFolder other;                               // of the same step, of another write
  save_with(3, other.path(), 4, 2);
  for (int rank = 0; rank < 3; ++rank) {
    const std::string name = "step-0000000002.rank-" + std::to_string(rank) + ".h5";
    fs::copy_file(other.file(name), damaged.part(rank), fs::copy_options::overwrite_existing);
  }
  EXPECT_THAT(damaged.error(), HasSubstr("does not fit its CRC-32C, though each of its pieces does"));
}

TEST(DamagedPieces, InspectShowsDamageAndHowManyFilesThereAre) {
  DamagedPieces damaged;
  const CheckpointDescription good = describe_checkpoint(damaged.folder.path());
  EXPECT_TRUE(good.intact());
  EXPECT_THAT(good.text(), HasSubstr("step 2, 11 data sets in 4 files, all intact"));
  // Some value of slots/m/prime, found by what it is.
  std::string bytes = read_bytes(damaged.part(1));
  std::size_t at = std::string::npos;
  for (int i = 0; i < 100 && at == std::string::npos; ++i) {
    const float values[] = {5000.5f + static_cast<float>(i), 5001.5f + static_cast<float>(i)};
    at = bytes.find(std::string_view(reinterpret_cast<const char*>(values), sizeof values));
  }
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_bytes(damaged.part(1), bytes);
  const CheckpointDescription bad = describe_checkpoint(damaged.folder.path());
  for (const auto& entry : bad.entries) EXPECT_EQ(entry.intact, entry.name != "slots/m/prime") << entry.name;
  EXPECT_THAT(bad.text(), AllOf(HasSubstr("in 4 files, DAMAGED"), HasSubstr("  DAMAGED\n")));
}

TEST(FailingPieces, OneRanksFailureIsTheSameErrorOnAllRanks) {
  const TemporaryFolder folder;
  run_as_threads(3, [&](Communicator& communicator) {
    CheckpointWriter writer(folder.path(), 1, "", Log(), &communicator);
    save_pieces(communicator, writer, 1, 1);
    if (communicator.rank() == 0) fs::create_directories(folder.path() / ".writing-step-0000000002.rank-2.h5" / "x");
    barrier(communicator);
    const std::string error = error_of([&] { save_pieces(communicator, writer, 2, 2); });
    EXPECT_THAT(error, AllOf(HasSubstr("the checkpoint of step 2 failed on rank 2: " + folder.file(".writing-step-0000000002.rank-2.h5") + ": cannot create"),
                             HasSubstr("Is a directory")));
    const std::vector<std::string> errors = all_gather(communicator, error);
    EXPECT_EQ(errors[0], errors[1]);
    EXPECT_EQ(errors[0], errors[2]);
    EXPECT_TRUE(holds(folder.path(), 1));
    if (communicator.rank() == 0) {
      EXPECT_THAT(names_in(folder.path()), ElementsAre(".writing-step-0000000002.rank-2.h5", "latest", "step-0000000001.h5", "step-0000000001.rank-0.h5",
                                                       "step-0000000001.rank-1.h5", "step-0000000001.rank-2.h5"));
      fs::remove_all(folder.path() / ".writing-step-0000000002.rank-2.h5");
      fs::create_directories(folder.path() / ".writing-step-0000000003.h5" / "x");   // now rank 0's index
    }
    barrier(communicator);
    const std::string index_error = error_of([&] { save_pieces(communicator, writer, 3, 3); });
    EXPECT_THAT(index_error, HasSubstr(folder.file(".writing-step-0000000003.h5") + ": cannot create"));
    EXPECT_TRUE(holds(folder.path(), 1));
    barrier(communicator);
    save_pieces(communicator, writer, 4, 4);                 // reported once; a later write tries again
  }, kBounded);
  fs::remove_all(folder.path() / ".writing-step-0000000003.h5");
  EXPECT_TRUE(holds(folder.path(), 4));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "step-0000000004.h5", "step-0000000004.rank-0.h5", "step-0000000004.rank-1.h5",
                                                   "step-0000000004.rank-2.h5"));
}

TEST(FailingPieces, ANewWriteOfAStepNeverHarmsTheOldOne) {
  const TemporaryFolder folder;
  save_with(3, folder.path(), 1, 5);
  run_as_threads(3, [&](Communicator& communicator) {
    CheckpointWriter writer(folder.path(), 1, "", Log(), &communicator);
    if (communicator.rank() == 0) fs::create_directories(folder.path() / ".writing-step-0000000005.2.rank-1.h5" / "x");
    barrier(communicator);
    EXPECT_THAT(error_of([&] { save_pieces(communicator, writer, 2, 5); }), HasSubstr("failed on rank 1"));
  }, kBounded);
  EXPECT_TRUE(holds(folder.path(), 1));
}

TEST(FailingPieces, NothingIsPublishedForARankThatIsGone) {
  const TemporaryFolder folder;
  save_with(3, folder.path(), 1, 1);
  const std::string error = error_of([&] {
    run_as_threads(3, [&](Communicator& communicator) {
      CheckpointWriter writer(folder.path(), 1, "", Log(), &communicator);
      PiecesState state({.rank = communicator.rank(), .ranks = communicator.size()});
      state.fill(2);
      Stateful* parts[] = {&state};
      writer.save(parts, 2);
      check(communicator.rank() != 1, Code::internal, "rank 1 is gone");
      writer.close();
    }, kBounded);
  });
  EXPECT_THAT(error, HasSubstr("rank 1 is gone"));
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 1u);
  EXPECT_TRUE(holds(folder.path(), 1));
  save_with(2, folder.path(), 3, 3, 1);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "step-0000000003.h5", "step-0000000003.rank-0.h5", "step-0000000003.rank-1.h5"));
}

/// Writes checkpoints with thread ranks, after `step`, until it is killed.
[[noreturn]] void write_until_killed(const fs::path& folder, std::int64_t step) {
  try {
    run_as_threads(3, [&](Communicator& communicator) {
      CheckpointWriter writer(folder, 2, "", Log(), &communicator);
      PiecesState state({.rank = communicator.rank(), .ranks = communicator.size(), .scale = 500});
      Stateful* parts[] = {&state};
      for (std::int64_t next = step + 1;; ++next) {
        state.fill(static_cast<std::uint64_t>(next));
        writer.save(parts, next, next % 3 == 0);
        for (int i = 0; i < 10; ++i) writer.poll();
      }
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  _exit(1);
}

TEST(KilledPieces, LatestBestAndAllOthersAlwaysLoad) {
  const TemporaryFolder folder;
  const auto seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  std::int64_t step = 0;
  int interrupted = 0;
  const int kills = setting("COHORT_TEST_KILLS", 12);
  for (int kill_number = 0; kill_number < kills; ++kill_number) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_until_killed(folder.path(), step);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 150000));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    std::set<fs::path> files;
    if (fs::exists(folder.path() / "latest")) files = {folder.path() / "latest"};
    if (fs::exists(folder.path() / "best")) files.insert(folder.path() / "best");
    for (const auto& file : list_checkpoints(folder.path())) files.insert(file);
    for (const auto& name : names_in(folder.path())) interrupted += name.starts_with(".writing-") ? 1 : 0;
    for (const auto& file : files) {
      PiecesState state({.pieces = false, .scale = 500});
      const CheckpointHeader header = load_into(state, file);
      ASSERT_TRUE(state.is(static_cast<std::uint64_t>(header.step))) << file << " after kill " << kill_number;
      if (file.filename() != "latest") continue;
      ASSERT_GE(header.step, step);
      step = header.step;
    }
  }
  std::cout << kills << " kills, " << step << " steps, " << interrupted << " unfinished files\n";
  if (kills >= 100) {   // with few kills on a slow machine there may be neither
    EXPECT_GT(step, 0);
    EXPECT_GT(interrupted, 0);
  }
}

}  // namespace
}  // namespace cohort
