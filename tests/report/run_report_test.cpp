// What a run says about itself: where the time went, memory, clocks, the trace as each rank gives it to rank 0.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "cohort/data/reader.hpp"
#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "report/clock_alignment.hpp"
#include "report/gather.hpp"
#include "report/rank_summary.hpp"
#include "support/patience.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::Options;
using testing::TemporaryFolder;
using ::testing::HasSubstr;

/// At least.
void sleep_milliseconds(std::int64_t n) {
  std::this_thread::sleep_for(std::chrono::duration<double>(testing::patient(1e-3 * static_cast<double>(n))));
}

/// A reader that takes 2 ms per sample.
class SlowReader final : public Reader {
 public:
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }
  [[nodiscard]] std::int64_t size() const override { return 1000; }
  void read(std::span<const std::uint32_t> indices, std::span<void* const> to) const override {
    sleep_milliseconds(2 * std::ssize(indices));
    for (std::size_t i = 0; i < indices.size(); ++i) {
      std::fill_n(static_cast<float*>(to[0]) + 4 * i, 4, 1.f);
      static_cast<std::int32_t*>(to[1])[i] = 0;
    }
  }

 private:
  std::vector<Field> fields_{{"image", DType::float32, {4}}, {"label", DType::int32, {}}};
};
const Registered<ReaderType> slow_reader{"test_slow", {[](Section&) -> std::unique_ptr<Reader> { return std::make_unique<SlowReader>(); }}};

/// The identity, 3 ms per row.
class SlowKernel final : public Kernel {
 public:
  void run(KernelContext& c) override {
    sleep_milliseconds(3 * c.in(0).shape()[0]);
    c.out().copy_from(c.in(0));
  }
};
const Registered<Op> slow_op{"TestSlow", {.infer = same_as_first, .gradient = [](const Backward& b) { return std::vector{b.dy()}; }}};
const RegisteredKernel slow_kernel{"TestSlow", "CPU", [](const NodeInfo&) { return std::make_unique<SlowKernel>(); }};
const Registered<ModelType> slow_model{"test_slow", {[](Section&) -> ModelBuilder {
  return [](Graph& g, const Batch& batch) -> Model {
    const Value logits = nn::dense(g.add("TestSlow", {batch["image"]}), 3, "output");
    return {.loss = mean(softmax_cross_entropy(logits, batch["label"])), .metrics = {}, .output = logits};
  };
}}};

std::string contents(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A number of summary.json, for one rank: its path is a sequence of keys.
double number(const std::string& json, int rank, const std::vector<std::string>& path) {
  std::size_t at = json.find("{\"rank\":" + std::to_string(rank) + ",");
  for (const std::string& key : path) at = json.find("\"" + key + "\":", at) + key.size() + 3;
  return std::stod(json.substr(at, 30));
}

const std::vector<std::string> kPhaseKeys{"compute", "communication", "slowest_rank", "data", "checkpoint", "validation", "other"};

TEST(RunReport, TimeIsFoundWhereItWasSpent) {
  const TemporaryFolder folder;
  const OptionList shares{{std::int64_t{1}, "test"}, {std::int64_t{6}, "test"}};
  const auto began = std::chrono::steady_clock::now();
  const TrainResult result = testing::train_with(2, {{"train.directory", (folder.path() / "run").string()}, {"train.max_steps", std::int64_t{20}},
                                                     {"model.type", std::string("test_slow")}, {"data.train.reader", std::string("test_slow")},
                                                     {"data.rank_batches", shares}, {"data.threads", std::int64_t{0}}});
  const double outside = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const std::string json = contents(result.directory / "summary.json");
  for (const int rank : {0, 1}) {
    double sum = 0;
    for (const std::string& key : kPhaseKeys) sum += number(json, rank, {"seconds", key});
    EXPECT_NEAR(sum, number(json, rank, {"wall_seconds"}), 0.02 * sum) << json;
    EXPECT_LE(sum, outside);
    EXPECT_EQ(number(json, rank, {"steps"}), 20);
  }
  EXPECT_EQ(result.seconds, number(json, 0, {"wall_seconds"}));
  // Rank 0 reads for 2 and computes for 3 ms per step, rank 1 for 12 and 18 ms. On a busy machine all of it takes longer.
  EXPECT_GE(number(json, 0, {"seconds", "data"}), 20 * 0.002);
  EXPECT_GE(number(json, 1, {"seconds", "data"}), 20 * 0.012);
  EXPECT_GE(number(json, 0, {"seconds", "compute"}), 20 * 0.003);
  EXPECT_GE(number(json, 1, {"seconds", "compute"}), 20 * 0.018);
  EXPECT_LT(number(json, 0, {"seconds", "data"}), number(json, 1, {"seconds", "data"}));
  EXPECT_LT(number(json, 0, {"seconds", "compute"}), number(json, 1, {"seconds", "compute"}));
  const double waited = number(json, 0, {"seconds", "slowest_rank"});
  EXPECT_GT(waited, 20 * 0.005);
  EXPECT_LT(number(json, 1, {"seconds", "slowest_rank"}), waited);
  EXPECT_LT(number(json, 0, {"seconds", "communication"}), waited);
  for (const int rank : {0, 1}) {
    EXPECT_GE(number(json, rank, {"step_seconds", "p50"}), 0.030 * 0.99);
    EXPECT_GE(number(json, rank, {"step_seconds", "p95"}), number(json, rank, {"step_seconds", "p50"}));
    EXPECT_EQ(number(json, rank, {"samples"}), rank == 0 ? 20 : 120);
  }
}

Options mlp_in(const std::filesystem::path& folder) {
  return {{"train.directory", (folder / "run").string()}, {"train.max_steps", std::int64_t{3}}, {"model.type", std::string("mlp")},
          {"model.hidden", OptionList{{std::int64_t{200}, "test"}, {std::int64_t{100}, "test"}}}, {"data.train.reader", std::string("synthetic")},
          {"data.train.samples", std::int64_t{192}}, {"data.batch", std::int64_t{32}}, {"data.threads", std::int64_t{0}},
          {"data.train.shape", OptionList{{std::int64_t{8}, "test"}, {std::int64_t{8}, "test"}, {std::int64_t{1}, "test"}}},
          {"data.validation.reader", std::string("synthetic")}, {"data.validation.samples", std::int64_t{7}},
          {"data.validation.shape", OptionList{{std::int64_t{8}, "test"}, {std::int64_t{8}, "test"}, {std::int64_t{1}, "test"}}},
          {"optimizer.type", std::string("adam")}};
}

TEST(RunReport, MemoryAndArithmeticOfAnMlpAreThoseCountedByHand) {
  const TemporaryFolder folder;
  const TrainResult result = testing::train_with(2, mlp_in(folder.path()));
  const std::string json = contents(result.directory / "summary.json");
  const double weights = 64 * 200 + 200 * 100 + 100 * 10, parameters = 4 * (weights + 310);
  for (const int rank : {0, 1}) {
    const auto bytes = [&](const char* key) { return number(json, rank, {"memory_bytes", key}); };
    EXPECT_GE(bytes("parameters"), parameters);
    EXPECT_LE(bytes("parameters"), 1.05 * parameters);
    EXPECT_EQ(bytes("gradients"), bytes("parameters"));
    EXPECT_EQ(bytes("slots"), 2 * bytes("parameters"));
    // Forward must keep both hidden layers' results, backward adds at most as much again.
    EXPECT_GE(bytes("least") - 4 * parameters, 32 * (200 + 100) * 4);
    EXPECT_LE(bytes("least") - 4 * parameters, 32 * (64 + 2 * 200 + 2 * 100 + 60) * 4);
    EXPECT_GE(bytes("ratio"), 1);
    EXPECT_LE(bytes("ratio"), 1.25);
    EXPECT_NEAR(bytes("parameters") + bytes("gradients") + bytes("slots") + bytes("activations") + bytes("kernels"), bytes("device_total"), 1);
    EXPECT_GE(bytes("kernels"), 0);
    EXPECT_EQ(bytes("batches"), (32 + 7) * (64 * 4 + 4));
    // Forward, and both gradients but for the first layer's, whose input is no parameter.
    EXPECT_EQ(number(json, rank, {"flops"}), 96 * 2 * (3 * weights - 64 * 200));
  }
}

TEST(RunReport, BothMetricsHoldTheSpeed) {
  const TemporaryFolder folder;
  const TrainResult result = testing::train_with(1, mlp_in(folder.path()));
  const std::string lines = contents(result.directory / "metrics.jsonl");
  std::string events;
  for (const auto& file : std::filesystem::directory_iterator(result.directory / "tensorboard")) events += contents(file.path());
  for (const char* name : {"train/loss", "learning_rate", "samples_per_second", "gflops_per_second", "step_seconds_p50", "validation/loss"}) {
    EXPECT_THAT(lines, HasSubstr(std::string("\"") + name + "\":"));
    EXPECT_THAT(events, HasSubstr(name));
  }
}

/// A clock that goes wrong in a known way.
class SkewedClock final : public Clock {
 public:
  SkewedClock(double ahead, double rate) : ahead_(ahead), rate_(rate), start_(Clock::steady().now()) {}
  double now() const override { return at(Clock::steady().now()); }
  [[nodiscard]] double at(double true_time) const { return true_time + ahead_ + rate_ * (true_time - start_); }
  void sleep(double seconds) override { Clock::steady().sleep(seconds); }

 private:
  double ahead_, rate_, start_;
};

TEST(ClockAlignment, OffsetsAreWithinTheirUncertaintyAndDriftIsFollowed) {
  const double first = Clock::steady().now();
  run_as_threads(3, [first](Communicator& communicator) {
    const int rank = communicator.rank();
    SkewedClock clock(1000.0 * rank * rank, 1e-3 * rank);      // 0, 1,000 s, 4,000 s ahead; 0, 1, 2 ms per second too fast
    const auto begin = measure_clock_offsets(communicator, clock);
    sleep_milliseconds(200);
    const double middle = Clock::steady().now();
    sleep_milliseconds(200);
    const auto end = measure_clock_offsets(communicator, clock);
    const double last = Clock::steady().now();
    for (const auto* offsets : {&begin, &end}) {
      EXPECT_EQ((*offsets)[0].seconds, 0);
      for (int r = 1; r < 3; ++r) {
        const ClockOffset& one = (*offsets)[static_cast<std::size_t>(r)];
        EXPECT_GT(one.uncertainty, 0);
        EXPECT_LT(one.uncertainty, testing::patient(0.1));
        EXPECT_NEAR(one.seconds, 1000.0 * r * r, one.uncertainty + 1e-3 * r * (last - first));
      }
    }
    const ClockAlignment alignment(begin[static_cast<std::size_t>(rank)], end[static_cast<std::size_t>(rank)]);
    const double worst = begin[static_cast<std::size_t>(rank)].uncertainty + end[static_cast<std::size_t>(rank)].uncertainty;
    const SkewedClock zero(0, 0);
    EXPECT_NEAR(alignment.to_rank_0(clock.at(middle)), zero.at(middle), worst + 1e-5) << "rank " << rank;
  });
}

TEST(ClockAlignment, GoesInAStraightLineBetweenTwoMeasurements) {
  const ClockAlignment alignment({.at = 100, .seconds = 10}, {.at = 200, .seconds = 12});
  EXPECT_EQ(alignment.to_rank_0(50), 40);
  EXPECT_EQ(alignment.to_rank_0(100), 90);
  EXPECT_EQ(alignment.to_rank_0(150), 139);
  EXPECT_EQ(alignment.to_rank_0(200), 188);
  EXPECT_EQ(alignment.to_rank_0(300), 288);
}

TEST(Gather, GivesRank0EachTextOnceAndInOrder) {
  for (const int ranks : {1, 2, 3, 4}) {
    run_as_threads(ranks, [](Communicator& communicator) {
      const auto text_of = [](int rank) { return std::string(rank % 2 == 0 ? 1 << 20 : rank == 1 ? 0 : 7, static_cast<char>('a' + rank)); };
      int next = 0;
      gather_in_turn(communicator, text_of(communicator.rank()), [&](int rank, const std::string& text) {
        EXPECT_EQ(rank, next++);
        EXPECT_EQ(text, text_of(rank));
      });
      EXPECT_EQ(next, communicator.rank() == 0 ? communicator.size() : 0);
    });
  }
}

TEST(RankSummary, AThousandRanksGiveAFewLines) {
  std::vector<RankSummary> ranks(1000);
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    ranks[r].set_host("node" + std::to_string(r));
    ranks[r].wall = 10;
    ranks[r].seconds[static_cast<std::size_t>(Phase::compute)] = r == 417 ? 1 : r == 23 ? 9 : 5;
  }
  const std::string table = summary_table(ranks);
  for (const char* name : {"0 node0 ", "23 node23", "417 node417", "999 node999"}) EXPECT_THAT(table, HasSubstr(name));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 11);
}

}  // namespace
}  // namespace cohort
