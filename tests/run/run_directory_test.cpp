// Which directory a run writes in, which one it goes on in, and that nobody else writes there meanwhile.
#include "run/run_directory.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/graph/model.hpp"
#include "run/fact_file.hpp"
#include "run/run_lock.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace cohort::testing;

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

/// Every file below with its bytes, and what its links mean.
std::map<std::string, std::string> contents_of(const fs::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_symlink()) all[entry.path().string()] = fs::read_symlink(entry.path()).string();
    else if (entry.is_regular_file()) all[entry.path().string()] = read_bytes(entry.path().string());
  }
  return all;
}

class RunDirectories : public ::testing::Test {
 protected:
  [[nodiscard]] Options options(const std::string& name, const Options& changes = {}) const {
    return with({{"train.directory", folder_.path().string() + "/" + name},
                 {"train.max_steps", std::int64_t{2}},
                 {"model.type", std::string("mlp")},
                 {"model.hidden", numbers({3})},
                 {"data.train.reader", std::string("synthetic")},
                 {"data.train.samples", std::int64_t{24}},
                 {"data.train.shape", numbers({2, 2, 1})},
                 {"data.global_batch", std::int64_t{8}},
                 {"data.threads", std::int64_t{0}},
                 {"train.threads", std::int64_t{1}}},
                changes);
  }
  TrainResult run(const std::string& name, const std::string& resume = {}, std::int64_t steps = 2) const {
    return train_with(1, options(name, {{"train.max_steps", steps}, {"train.epochs", std::int64_t{9}}}), resume);
  }
  [[nodiscard]] RunDirectory choose(const std::string& name, const std::string& resume = {}, bool given = true) const {
    RunDirectory chosen;
    run_as_threads(1, [&](Communicator& c) {
      chosen = choose_directory(c, {folder_.path().string() + "/" + name, given}, resume);
    });
    return chosen;
  }
  [[nodiscard]] fs::path path(const std::string& name) const { return folder_.path() / name; }

  TemporaryFolder folder_;
};

TEST_F(RunDirectories, ANameMeansTheSameHoweverItIsWritten) {
  EXPECT_EQ(run("x/").directory, path("x"));
  EXPECT_EQ(run("./x//").directory, path("x-2"));
  EXPECT_EQ(run("y/../x").directory, path("x-3"));
  EXPECT_EQ(names_in(folder_.path()), (std::set<std::string>{"x", "x-2", "x-3"}));
  EXPECT_EQ(run("x/", "auto", 4).directory, path("x-3"));
  for (const std::string bad : {"", ".", "..", "/", "x/.."}) {
    run_as_threads(2, [&](Communicator& c) {
      EXPECT_THAT(error_of([&] {
                    (void)choose_directory(c, {bad, true}, {});
                  }),
                  HasSubstr("train.directory = \"" + bad + "\""))
          << bad;
    });
  }
}

TEST_F(RunDirectories, AutoFindsTheLastRunWhateverNumbersAreMissing) {
  for (int i = 0; i < 4; ++i) run("x");
  fs::remove_all(path("x-2"));
  fs::remove_all(path("x"));
  EXPECT_EQ(choose("x", "auto").path, path("x-4"));
  for (const char* name : {"x-3", "x-4"}) fs::remove(path(name) / "run.toml");  // as an earlier version leaves them
  EXPECT_EQ(choose("x", "auto").path, path("x-4"));
  EXPECT_EQ(run("x").directory, path("x"));  // the first that is free, and the last that was started
  EXPECT_EQ(choose("x", "auto").path, path("x"));
  fs::remove_all(path("x") / "checkpoints");
  EXPECT_EQ(choose("x", "auto").path, path("x-4"));
}

TEST_F(RunDirectories, AutoGoesByTheNameThatARunWasStartedUnder) {
  run("x");
  run("x-2");
  run("x-02");
  EXPECT_EQ(choose("x", "auto").path, path("x"));
  fs::rename(path("x"), path("kept"));
  EXPECT_EQ(choose("x", "auto").path, path("kept"));
  EXPECT_EQ(choose("x-2", "auto").path, path("x-2"));
}

TEST_F(RunDirectories, AutoDoesNotBeginAnewBesideCheckpointsThatCannotBeUsed) {
  const TrainResult first = run("x");
  const std::string file = fs::canonical(first.checkpoint).string();
  fs::remove(first.checkpoint);
  EXPECT_EQ(choose("x", "auto").resume_from, file);  // a link that is lost is no loss
  write_bytes(file, read_bytes(file).substr(0, 5000));
  EXPECT_THAT(error_of([&] { run("x", "auto"); }),
              AllOf(HasSubstr("none of them is intact"), HasSubstr(path("x").string())));
  EXPECT_EQ(names_in(folder_.path()), std::set<std::string>{"x"});
  EXPECT_EQ(run("x").directory, path("x-2"));  // who asks for a fresh run gets one
}

TEST_F(RunDirectories, ACheckpointOfAnotherRunIsLeftAloneAndBeginsAFreshOne) {
  const TrainResult first = run("x");
  const auto before = contents_of(path("x"));
  const fs::path loose = path("loose.h5");
  fs::copy_file(fs::canonical(first.checkpoint), loose);
  const TrainResult whole = run("whole", {}, 4);
  for (const std::string& from :
       {path("x").string(), first.checkpoint.string(), fs::canonical(first.checkpoint).string(), loose.string()}) {
    SCOPED_TRACE(from);
    ::testing::internal::CaptureStdout();
    const TrainResult second = run("y", from, 4);
    const std::string said = ::testing::internal::GetCapturedStdout();
    EXPECT_THAT(said, AllOf(HasSubstr("started from "), HasSubstr("at step 2, in " + second.directory.string()))) << said;
    EXPECT_EQ(second.steps, 4);
    expect_same_bits(second.checkpoint, whole.checkpoint);
  }
  EXPECT_EQ(contents_of(path("x")), before);
  EXPECT_EQ(names_in(folder_.path()), (std::set<std::string>{"loose.h5", "whole", "x", "y", "y-2", "y-3", "y-4"}));
}

TEST_F(RunDirectories, ACheckpointOfARunGoesOnInItsDirectory) {
  const TrainResult first = run("x");
  const std::string file = fs::canonical(first.checkpoint).string();
  EXPECT_EQ(choose("x", file).path, path("x"));
  EXPECT_EQ(choose("y", file, false).path, path("x"));  // nobody has asked for another directory
  run("x");
  EXPECT_EQ(choose("x/", path("x").string()).path, path("x"));  // not the last of its name, but named
  fs::remove(path("x-2") / "run.toml");
  EXPECT_EQ(choose("x", path("x-2").string()).path, path("x-2"));
  EXPECT_EQ(names_in(folder_.path()), (std::set<std::string>{"x", "x-2"}));
}

class BrokenReader final : public Reader {
 public:
  std::int64_t size() const override { return 24; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t>, std::span<void* const>) const override {
    fail(Code::data_loss, "no sample can be read");
  }

 private:
  std::vector<Field> fields_{{"image", DType::float32, {2, 2, 1}}, {"label", DType::int32, {}}};
};
const Registered<ReaderType> broken_reader{"test_broken", {[](Section&) { return std::make_unique<BrokenReader>(); }}};
const Registered<ModelType> broken_model{"test_broken", {[](Section&) -> ModelBuilder {
                                           return [](Graph&, const Batch&) -> Model {
                                             fail(Code::invalid_argument, "no model can be built");
                                           };
                                         }}};

TEST_F(RunDirectories, ARunThatFailsBeforeItsFirstStepLeavesNothing) {
  Options without_model = options("x", {{"model.type", std::string("test_broken")}}),
          without_data = options("x", {{"data.train.reader", std::string("test_broken")}});
  without_model.erase("model.hidden");
  for (const char* key : {"data.train.samples", "data.train.shape"}) without_data.erase(key);
  const Options tasks = {{"cluster.ps", std::int64_t{1}}, {"train.updater", std::string("sync_with_backups")}};
  for (const int ranks : {1, 3}) {
    EXPECT_THAT(error_of([&] { train_with(ranks, without_model); }), HasSubstr("no model can be built"));
    EXPECT_THAT(error_of([&] { train_with(ranks, without_data); }), HasSubstr("no sample can be read"));
    if (ranks > 1) {
      EXPECT_THAT(error_of([&] { train_with(ranks, with(without_data, tasks)); }), HasSubstr("no worker is left"));
    }
    EXPECT_TRUE(names_in(folder_.path()).empty()) << ::testing::PrintToString(names_in(folder_.path()));
  }
  // A run that goes on keeps what is there.
  run("x");
  const auto before = names_in(path("x") / "checkpoints");
  without_data["train.max_steps"] = std::int64_t{4};
  EXPECT_THAT(error_of([&] { train_with(1, without_data, "auto"); }), HasSubstr("no sample can be read"));
  EXPECT_EQ(names_in(path("x") / "checkpoints"), before);
  EXPECT_FALSE(fs::exists(path("x") / "lock"));
}

// One job at a time
// --------------------------------------------------------------------------------------------------------------

/// What a lock says that this process might have made.
Facts own_facts() {
  const TemporaryFolder folder;
  const RunLock lock(folder.path(), {}, Log({}, LogLevel::off));
  return read_facts(folder.path() / "lock");
}

void write_lock(const fs::path& directory, const Facts& facts) {
  write_bytes((directory / "lock").string(), facts_text("somebody else's", facts));
}

void set_age(const fs::path& lock, std::chrono::seconds age) { fs::last_write_time(lock, fs::last_write_time(lock) - age); }

struct Told {
  std::string text;
  Log log{{}, LogLevel::info, [this](LogLevel, std::string_view line) { text += line; }};
};

std::string refusal(const fs::path& directory) {
  return error_of([&] { const RunLock lock(directory, {}, Log({}, LogLevel::off)); });
}

TEST(RunLocks, ASecondJobIsRefusedWithTheFirstsNameUntilThatEnds) {
  const TemporaryFolder folder;
  {
    const RunLock lock(folder.path(), "Slurm job 4711", Log());
    EXPECT_THAT(refusal(folder.path()),
                AllOf(HasSubstr("process " + std::to_string(getpid())), HasSubstr("(Slurm job 4711), since 20"),
                      HasSubstr("last sign of life"), HasSubstr(folder.path().string())));
    EXPECT_NO_THROW(lock.check());
    EXPECT_THAT(job_at_work(folder.path()), HasSubstr("4711"));
    EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"lock"});
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
  EXPECT_EQ(job_at_work(folder.path()), "");
  EXPECT_EQ(refusal(folder.path()), "");
}

TEST(RunLocks, ADeadProcesssLockIsTakenOver) {
  const Facts own = own_facts();
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  const auto changed = [&](const Facts& changes) {
    Facts facts = own;
    for (const auto& [name, fact] : changes) facts[name] = fact;
    return facts;
  };
  const std::vector<std::pair<Facts, int>> dead = {{changed({{"process", std::to_string(child)}}), 0},  // gone
                                                   {changed({{"started", "1"}}), 0},  // another one has its number
                                                   {changed({{"host", "elsewhere"}}), 60},  // silent
                                                   {changed({{"space", "pid:[1]"}}), 60},  // in a container of this host
                                                   {{}, 60}};  // torn
  for (const auto& [facts, age] : dead) {
    const TemporaryFolder folder;
    write_lock(folder.path(), facts);
    set_age(folder.path() / "lock", std::chrono::seconds(age));
    EXPECT_EQ(job_at_work(folder.path()), "");
    Told told;
    const RunLock lock(folder.path(), {}, told.log);
    EXPECT_THAT(told.text, HasSubstr("is dead")) << ::testing::PrintToString(facts);
    EXPECT_NE(refusal(folder.path()), "");
    EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"lock"});
  }
}

TEST(RunLocks, ASignOfLifeOnAnotherHostIsWaitedFor) {
  const TemporaryFolder folder;
  Facts facts = own_facts();
  facts["host"] = "elsewhere";
  write_lock(folder.path(), facts);
  std::jthread beats([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      utimensat(AT_FDCWD, (folder.path() / "lock").c_str(), nullptr, 0);
    }
  });
  EXPECT_THAT(refusal(folder.path()), HasSubstr("on elsewhere"));
  EXPECT_THAT(job_at_work(folder.path()), HasSubstr("on elsewhere"));
}

TEST(RunLocks, OneOfManyThatTakeOverAtOnceGetsIt) {
  Facts facts = own_facts();
  facts["started"] = "1";
  for (int round = 0; round < 20; ++round) {
    const TemporaryFolder folder;
    if (round % 2 == 0) write_lock(folder.path(), facts);
    constexpr int kJobs = 6;
    std::atomic<int> ready = 0, done = 0;
    std::atomic<int> got = 0;
    {
      std::vector<std::jthread> jobs;
      for (int i = 0; i < kJobs; ++i) {
        jobs.emplace_back([&] {
          std::unique_ptr<RunLock> lock;
          ++ready;
          while (ready < kJobs) std::this_thread::yield();
          if (error_of([&] { lock = std::make_unique<RunLock>(folder.path(), "", Log({}, LogLevel::off)); }).empty()) ++got;
          ++done;
          while (done < kJobs) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        });
      }
    }
    EXPECT_EQ(got, 1);
    EXPECT_TRUE(names_in(folder.path()).empty());
  }
}

TEST(RunLocks, WhoHasLostItsDirectoryNotices) {
  const TemporaryFolder folder;
  const RunLock lock(folder.path(), {}, Log());
  Facts facts = own_facts();
  facts["host"] = "elsewhere";
  write_lock(folder.path(), facts);
  std::string error;
  for (int i = 0; i < 200 && error.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    error = error_of([&] { lock.check(); });
  }
  EXPECT_THAT(error, AllOf(HasSubstr("taken over by"), HasSubstr("on elsewhere")));
}

TEST_F(RunDirectories, OneOfTwoJobsThatStartAtOnceGetsTheRun) {
  for (const bool before : {false, true}) {
    SCOPED_TRACE(before ? "with a checkpoint" : "with nothing there");
    fs::remove_all(path("x"));
    if (before) run("x");
    std::atomic<int> got = 0, refused = 0;
    run_as_threads(4, [&](Communicator& world) {
      Communicator alone = world.alone();
      RunDirectory mine;
      const std::string error = error_of([&] { mine = choose_directory(alone, {path("x").string(), true}, "auto"); });
      ++(error.empty() ? got : refused);
      if (!error.empty()) {
        EXPECT_THAT(error, HasSubstr("is in use by process"));
      }
      barrier(world);
    });
    EXPECT_EQ(got, 1);
    EXPECT_EQ(refused, 3);
    EXPECT_EQ(names_in(folder_.path()), std::set<std::string>{"x"});
  }
}

TEST_F(RunDirectories, ARunHoldsItsDirectoryToItsEnd) {
  const RunDirectory held = choose("x");
  EXPECT_THAT(error_of([&] { run("x", "auto"); }), HasSubstr("is in use by process"));
  EXPECT_EQ(run("x").directory, path("x-2"));  // a fresh run does not care
  EXPECT_EQ(names_in(path("x-2")).count("lock"), 0u);
  const fs::path checkpoint = path("x-2") / "checkpoints" / "latest";
  const RunDirectory second = choose("x", checkpoint.string());
  EXPECT_THAT(error_of([&] { run("x", checkpoint.string()); }), HasSubstr("is in use by process"));
}

}  // namespace
}  // namespace cohort
