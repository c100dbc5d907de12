// Training over real MPI: as many ranks as mpirun started give what one rank gives, and replicas stay the same bit by bit.
#include <gtest/gtest.h>

#include <cmath>

#include "cohort/comm/control.hpp"
#include "cohort/updaters/updater.hpp"
#include "run/phases.hpp"
#include "support/mpi_world.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

TEST(TrainingOverMpi, SeveralRanksAreOneRankWithTheWholeBatch) {
  Communicator& world = testing::world();
  const testing::TemporaryFolder folder;                     // each rank has one; rank 0's is used
  for (const char* algorithm : {"auto", "mpi", "ring"}) {
    testing::Options options = {{"train.directory", (folder.path() / algorithm).string()}, {"train.check_replicas", true},
                                {"train.epochs", std::int64_t{2}}, {"model.type", std::string("lenet")},
                                {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{50}},
                                {"data.train.shape", OptionList{{std::int64_t{28}, "test"}, {std::int64_t{28}, "test"}, {std::int64_t{1}, "test"}}},
                                {"data.validation.reader", std::string("synthetic")}, {"data.validation.samples", std::int64_t{7}},
                                {"data.validation.shape", OptionList{{std::int64_t{28}, "test"}, {std::int64_t{28}, "test"}, {std::int64_t{1}, "test"}}},
                                {"data.global_batch", std::int64_t{12}}, {"schedule.learning_rate", 0.02}, {"exchange.bucket_mib", 0.05},
                                {"exchange.first_bucket_mib", 0.01}};
    Section alone = testing::section_of(options);
    options["exchange.algorithm"] = std::string(algorithm);
    Section together = testing::section_of(options);
    const TrainResult many = train(world, together);
    EXPECT_EQ(many.steps, 10);
    if (world.rank() != 0) continue;
    TrainResult one;
    run_as_threads(1, [&](Communicator& single) { one = train(single, alone); });
    const auto x = testing::tensors_of(one.checkpoint), y = testing::tensors_of(many.checkpoint);
    for (const auto& [name, values] : x) {
      double scale = 0, difference = 0;
      for (std::size_t i = 0; i < values.size(); ++i) {
        scale = std::max(scale, std::fabs(static_cast<double>(values[i])));
        difference = std::max(difference, std::fabs(static_cast<double>(values[i]) - y.at(name)[i]));
      }
      EXPECT_LE(difference, 2e-6 * scale) << algorithm << ", " << name;
    }
    EXPECT_NEAR(one.validation->loss, many.validation->loss, 1e-5 * one.validation->loss);
    EXPECT_EQ(many.validation->samples, 7);
  }
}

TEST(TrainingOverMpi, WarmsUpWithOneRankThatTheOthersFollow) {
  Communicator& world = testing::world();
  const testing::TemporaryFolder folder;                     // each rank has one; rank 0's is used
  for (const std::string& updater : Registry<UpdaterType>::instance().names()) {
    const testing::Options warm = {{"train.directory", (folder.path() / updater).string()}, {"train.epochs", std::int64_t{1}},
                                   {"train.updater", updater}, {"train.deterministic", true}, {"warmup.epochs", std::int64_t{1}}, {"model.hidden", testing::numbers({9})},
                                   {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{40}},
                                   {"data.train.shape", testing::numbers({4, 4, 1})}, {"data.batch", std::int64_t{4}},
                                   {"optimizer.type", std::string("adam")}};
    const testing::Options longer = testing::with(warm, {{"train.epochs", std::int64_t{3}}});
    const auto run = [&](const testing::Options& options, const std::string& resume) {
      Section config = testing::section_of(options);
      return train(world, config, resume);
    };
    TrainResult one;
    if (world.rank() == 0) one = testing::train_with(1, warm);
    std::string checkpoint = std::filesystem::path(one.checkpoint).string();
    broadcast(world, checkpoint, 0);
    const TrainResult resumed = run(longer, checkpoint), whole = run(longer, {});
    EXPECT_EQ(whole.steps, 10 + 2 * ((40 + 4 * world.size() - 1) / (4 * world.size()))) << updater;
    EXPECT_EQ(whole.steps, resumed.steps);
    if (world.rank() == 0) testing::expect_same_bits(whole.checkpoint, resumed.checkpoint);
    barrier(world);
  }
}

/// The job's odd ranks and its even ones, each with data, seed and directory of its own.
TEST(TrainingOverMpi, GroupsSideBySideAreJobsOfTheirOwn) {
  Communicator& world = testing::world();
  const testing::TemporaryFolder folder;                     // each rank has one; those of the groups' roots are used
  const int which = world.rank() % 2;
  Communicator mine = world.split(which);
  for (const std::string& updater : updater_names()) {
    if (updater == "async") continue;                        // the order of its updates is nobody's choice
    const auto options = [&](const std::string& where) {
      return testing::Options{{"train.directory", (folder.path() / (updater + where)).string()},
                              {"train.epochs", std::int64_t{2}},
                              {"train.updater", updater},
                              {"train.deterministic", true},
                              {"train.seed", std::int64_t{1 + which}},
                              {"warmup.epochs", std::int64_t{updater == "sync_with_backups" ? 0 : 1}},
                              {"model.hidden", testing::numbers({9 + which})},
                              {"data.train.reader", std::string("synthetic")},
                              {"data.train.samples", std::int64_t{22}},
                              {"data.train.shape", testing::numbers({4, 4, 1})},
                              {"data.batch", std::int64_t{4}},
                              {"optimizer.type", std::string("adam")}};
    };
    Section config = testing::section_of(options("-group"));
    const TrainResult result = train(mine, config);
    if (mine.is_root()) {
      const TrainResult alone = testing::train_with(mine.size(), options("-alone"));
      testing::expect_same_bits(alone.checkpoint, result.checkpoint);
      EXPECT_EQ(alone.loss, result.loss) << updater;
      EXPECT_TRUE(std::filesystem::exists(result.directory / "metrics.jsonl")) << updater;
    }
    barrier(world);
  }
}

}  // namespace
}  // namespace cohort
