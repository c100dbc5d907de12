// Several ranks go on from one checkpoint: what they read of it, and that all of them have it or none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <concepts>
#include <map>
#include <mutex>

#include "checkpoint/open_checkpoint.hpp"
#include "checkpoint/pieces_state.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "hdf5/read_count.hpp"
#include "support/patience.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using namespace cohort::testing;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

const ThreadRanksOptions kBounded{.timeout = testing::kHung};

// Who saves cannot change what it is shown, and who holds a state that it may not change can only save it.
template <class State>
concept Saves = requires(State& state, StateWriter& writer) { state.save(writer); };
template <class State>
concept Loads = requires(State& state, StateReader& reader) { state.load(reader); };
static_assert(Saves<const Stateful> && !Loads<const Stateful> && Loads<Stateful>);
template <class Io, class Value>
concept TakesByReference = requires(Io& io, void (Io::*method)(const std::string&, Value&)) { method = &Io::value; };
static_assert(TakesByReference<StateReader, std::int64_t> && TakesByReference<StateReader, double>);
static_assert(!TakesByReference<StateWriter, std::int64_t> && !TakesByReference<StateWriter, double>);

constexpr std::int64_t kScale = 3000;

void save_with(int ranks, const fs::path& folder, std::uint64_t seed, std::int64_t step) {
  run_as_threads(ranks, [&](Communicator& communicator) {
    CheckpointWriter writer(folder, 5, "epochs = 6\n", Log(), &communicator);
    PiecesState state({.rank = communicator.rank(), .ranks = ranks, .cut = seed, .scale = kScale});
    state.fill(seed);
    Stateful* parts[] = {&state};
    writer.save(parts, step);
    writer.close();
  }, kBounded);
}

void save_whole(const fs::path& folder, std::uint64_t seed, std::int64_t step) {
  PiecesState state({.pieces = false, .scale = kScale});
  state.fill(seed);
  Stateful* parts[] = {&state};
  CheckpointWriter writer(folder, 5, "epochs = 6\n");
  writer.save(parts, step);
}

PiecesState state_of(const Communicator& ranks, bool pieces) {
  return PiecesState({.rank = pieces ? ranks.rank() : 0, .ranks = pieces ? ranks.size() : 1, .pieces = pieces, .cut = 77, .scale = kScale});
}

/// The text of its error, with the place: ranks whose failures differ in anything are all printed.
std::string load(OpenCheckpoint& checkpoint, Communicator& ranks, PiecesState& state) {
  Stateful* parts[] = {&state};
  try {
    const CheckpointHeader header = checkpoint.load(&ranks, parts);
    EXPECT_EQ(header.configuration, "epochs = 6\n");
    EXPECT_EQ(header.step, 2);
  } catch (const Error& error) {
    return std::string(error.what()) + " at " + location_text(error.where());
  }
  return {};
}

/// What all ranks of a load have read together.
struct Reading {
  std::map<std::string, int> opened;     // by file
  std::map<std::string, int> readers;    // ranks that have opened it
  std::uint64_t bytes = 0;
};

/// Loads with so many ranks, in pieces or each of them the whole.
Reading load_with(int ranks, bool pieces, const fs::path& folder, std::uint64_t seed) {
  std::mutex mutex;
  Reading all;
  run_as_threads(ranks, [&](Communicator& communicator) {
    PiecesState state = state_of(communicator, pieces);
    const hdf5::ReadCount count;
    OpenCheckpoint checkpoint(folder);
    EXPECT_EQ(checkpoint.text(&communicator, "train/text"), "seed " + std::to_string(seed));
    EXPECT_EQ(checkpoint.text(&communicator, "no/such/text"), "");
    EXPECT_EQ(load(checkpoint, communicator, state), "");
    EXPECT_TRUE(state.is(seed)) << communicator.rank() << " of " << ranks;
    const std::lock_guard lock(mutex);
    for (const auto& [file, times] : count.opened()) {
      all.opened[file] += times;
      ++all.readers[file];
    }
    all.bytes += count.bytes();
  }, kBounded);
  return all;
}

/// Of the elements of all tensors, each of them once.
std::uint64_t bytes_of_tensors() {
  const PiecesState whole({.pieces = false, .scale = kScale});
  std::int64_t elements = 3;
  for (std::size_t t = 0; t < PiecesState::kTensors; ++t) elements += whole.shape_of(t).elements();
  return static_cast<std::uint64_t>(elements) * sizeof(float);
}

TEST(CheckpointLoad, OfEightRanksByThreeReadsEachFileOnceAndNoPieceTwice) {
  const TemporaryFolder folder;
  save_with(8, folder.path(), 5, 2);
  for (const bool pieces : {true, false}) {
    const Reading reading = load_with(3, pieces, folder.path(), 5);
    EXPECT_THAT(reading.opened, AllOf(SizeIs(9), Each(Pair(::testing::_, 1))));
    EXPECT_THAT(reading.readers, Each(Pair(::testing::_, 1)));
    EXPECT_GE(reading.bytes, bytes_of_tensors());
    EXPECT_LE(static_cast<double>(reading.bytes), 1.3 * static_cast<double>(bytes_of_tensors())) << reading.bytes << " bytes";
  }
}

TEST(CheckpointLoad, WhatIsStoredWholeIsReadByRank0Alone) {
  const TemporaryFolder folder;
  save_whole(folder.path(), 6, 2);
  for (const bool pieces : {true, false}) {
    const Reading reading = load_with(3, pieces, folder.path(), 6);
    EXPECT_THAT(reading.opened, AllOf(SizeIs(1), Each(Pair(::testing::_, 1))));
    EXPECT_LE(static_cast<double>(reading.bytes), 1.3 * static_cast<double>(bytes_of_tensors()));
  }
}

TEST(CheckpointLoad, AnyRanksWriteAndAnyRanksLoadTogether) {
  for (int writers = 0; writers <= 5; writers += 1 + writers / 3) {     // 0: whole
    const TemporaryFolder folder;
    if (writers == 0) save_whole(folder.path(), 3, 2);
    else save_with(writers, folder.path(), 3, 2);
    for (const int readers : {1, 3, 6}) {
      load_with(readers, true, folder.path(), 3);
      load_with(readers, false, folder.path(), 3);
    }
  }
}

/// Changes one bit of an element of slots/m/prime, or of parameters/matrix, which is so large that it has the same ones.
void damage(const fs::path& file, std::uint64_t seed) {
  std::string bytes = read_bytes(file);
  std::size_t at = std::string::npos;
  for (int i = 0; i < 100 && at == std::string::npos; ++i) {
    const float values[] = {5000.f + static_cast<float>(seed) / 4 + static_cast<float>(i), 5001.f + static_cast<float>(seed) / 4 + static_cast<float>(i)};
    at = bytes.find(std::string_view(reinterpret_cast<const char*>(values), sizeof values));
  }
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_bytes(file, bytes);
}

/// The error of all three ranks, which must have loaded nothing.
std::string error_of_all(const fs::path& folder, bool pieces) {
  std::string error;
  run_as_threads(3, [&](Communicator& ranks) {
    PiecesState state = state_of(ranks, pieces);
    OpenCheckpoint checkpoint(folder);
    const std::string mine = load(checkpoint, ranks, state);
    EXPECT_TRUE(state.untouched()) << ranks.rank();
    for (const std::string& other : all_gather(ranks, mine)) EXPECT_EQ(other, mine);
    if (ranks.rank() == 0) error = mine;
  }, kBounded);
  return error;
}

TEST(CheckpointLoad, WhatOneRankMeetsIsTheSameErrorOnAllAndNothingIsLoaded) {
  const TemporaryFolder folder;
  save_with(3, folder.path(), 1, 1);
  save_with(4, folder.path(), 2, 2);
  const std::string intact = "; an intact checkpoint is " + folder.file("step-0000000001.h5");
  for (int rank = 0; rank < 4; ++rank) {
    const std::string file = folder.file("step-0000000002.rank-" + std::to_string(rank) + ".h5"), bytes = read_bytes(file);
    if (bytes.find("prime") != std::string::npos && rank % 2 == 0) damage(file, 2);
    else fs::remove(file);
    for (const bool pieces : {true, false}) EXPECT_THAT(error_of_all(folder.path(), pieces), AllOf(HasSubstr(file), HasSubstr(intact)));
    write_bytes(file, bytes);
  }
  load_with(3, true, folder.path(), 2);
}

TEST(CheckpointLoad, WhatRank0CannotReadIsLoadedNowhere) {
  const TemporaryFolder folder;
  save_whole(folder.path(), 2, 2);
  damage(folder.file("step-0000000002.h5"), 2);
  for (const bool pieces : {true, false}) {
    EXPECT_THAT(error_of_all(folder.path(), pieces), AllOf(HasSubstr("step-0000000002.h5: '/parameters/matrix' does not fit its CRC-32C"),
                                                           HasSubstr("; there is no other intact checkpoint beside it")));
  }
  EXPECT_THAT(error_of_all(folder.file("elsewhere.h5"), true), HasSubstr("elsewhere.h5: no such file"));
}

TEST(CheckpointLoad, RanksThatAskForDifferentStatesAreToldSo) {
  const TemporaryFolder folder;
  save_with(2, folder.path(), 2, 2);
  std::atomic<int> told = 0;
  run_as_threads(3, [&](Communicator& ranks) {
    PiecesState state({.rank = ranks.rank(), .ranks = 3, .scale = ranks.rank() == 1 ? kScale + 1 : kScale});
    OpenCheckpoint checkpoint(folder.path());
    EXPECT_THAT(load(checkpoint, ranks, state), HasSubstr("ranks that load one together ask for different states"));
    ++told;
  }, kBounded);
  EXPECT_EQ(told, 3);
}

}  // namespace
}  // namespace cohort
