// Checkpoints in pieces over real MPI: every rank's process writes its file, and one that cannot is reported by all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/open_checkpoint.hpp"
#include "checkpoint/pieces_state.hpp"
#include "cohort/comm/control.hpp"
#include "support/mpi_world.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::HasSubstr;

/// Rank 0's, for all.
std::filesystem::path shared_folder(const TemporaryFolder& mine) {
  std::string path = mine.path().string();
  broadcast(world(), path, 0);
  return path;
}

bool holds(const std::filesystem::path& path, std::uint64_t seed) {
  PiecesState pieces({.rank = world().rank(), .ranks = world().size(), .cut = seed + 1}), whole({.pieces = false});
  load_into(pieces, path);
  load_into(whole, path);
  return pieces.is(seed) && whole.is(seed);
}

/// The same where the ranks load it together.
bool holds_together(const std::filesystem::path& path, std::uint64_t seed) {
  PiecesState pieces({.rank = world().rank(), .ranks = world().size(), .cut = seed + 1}), whole({.pieces = false});
  OpenCheckpoint checkpoint(path);
  for (PiecesState* const state : {&pieces, &whole}) {
    Stateful* parts[] = {state};
    static_cast<void>(checkpoint.load(&world(), parts));
  }
  return pieces.is(seed) && whole.is(seed);
}

TEST(CheckpointOverMpi, EveryRankWritesItsFileAndAllReadThem) {
  const TemporaryFolder mine;
  const auto folder = shared_folder(mine);
  {
    CheckpointWriter writer(folder, 2, "", Log(), &world());
    PiecesState state({.rank = world().rank(), .ranks = world().size()});
    Stateful* parts[] = {&state};
    for (std::uint64_t step = 1; step <= 6; ++step) {
      state.fill(step);
      writer.save(parts, static_cast<std::int64_t>(step), step == 2);
      for (int i = 0; i < 5; ++i) {                          // training goes on, with messages of its own
        barrier(world());
        writer.poll();
      }
    }
    writer.close();
  }
  EXPECT_TRUE(holds(folder, 6));
  EXPECT_TRUE(holds_together(folder, 6));
  EXPECT_TRUE(holds(folder / "best", 2));
  EXPECT_TRUE(holds_together(folder / "best", 2));
  EXPECT_EQ(list_checkpoints(folder).size(), 3u);
  barrier(world());
}

TEST(CheckpointOverMpi, OneRanksFailureIsTheSameErrorOnAllRanks) {
  const TemporaryFolder mine;
  const auto folder = shared_folder(mine);
  const int last = world().size() - 1;
  CheckpointWriter writer(folder, 2, "", Log(), &world());
  save_pieces(world(), writer, 1, 1);
  if (world().rank() == 0) std::filesystem::create_directories(folder / (".writing-step-0000000002.rank-" + std::to_string(last) + ".h5") / "x");
  barrier(world());
  const std::string error = error_of([&] { save_pieces(world(), writer, 2, 2); });
  EXPECT_THAT(error, HasSubstr("the checkpoint of step 2 failed on rank " + std::to_string(last)));
  for (const std::string& other : all_gather(world(), error)) EXPECT_EQ(other, error);
  EXPECT_TRUE(holds(folder, 1));
  save_pieces(world(), writer, 3, 3);
  EXPECT_TRUE(holds(folder, 3));
  barrier(world());
}

}  // namespace
}  // namespace cohort
