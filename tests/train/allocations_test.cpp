// After a few steps a whole training step allocates nothing: forward, backward, exchange, update, and what the trainer does
// around them. Counted over all threads of the program, from one step's batch to the next one's. oneDNN makes a table of the
// arguments whenever a primitive is called; that is left out.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>

#include "cohort/comm/codec.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/params/optimizer.hpp"
#include "support/count_allocations.hpp"
#include "support/training.hpp"
#include "tasks/gradient_push.hpp"
#include "tasks/parameter_task.hpp"

namespace cohort {
namespace {

using testing::numbers;
using testing::Options;

/// Zeros that differ by their label. Notes, whenever a batch is read, how often anything has been allocated by then.
class CountingReader final : public Reader {
 public:
  static constexpr std::size_t kMost = 4096;
  static inline std::array<std::size_t, kMost> counts{};      // by read
  static inline std::atomic<std::size_t> reads = 0;

  explicit CountingReader(Section& section) {
    section.bind("shape", shape_, "of an image, or positions of a sequence");
    if (shape_.size() == 1) fields_ = {{"input", DType::int32, Shape(shape_)}, {"target", DType::int32, Shape(shape_)}};
    else fields_ = {{"image", DType::float32, Shape(shape_)}, {"label", DType::int32, {}}};
  }
  std::int64_t size() const override { return 10'000; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    const std::size_t at = reads++;
    if (at < kMost) counts[at] = testing::allocations();
    for (std::size_t f = 0; f < 2; ++f) {
      const auto bytes = static_cast<std::size_t>(fields_[f].shape.elements()) * samples.size() * 4;
      std::memset(buffers[f], 0, bytes);
      if (fields_[f].dtype == DType::float32) static_cast<float*>(buffers[f])[0] = 1;
    }
  }

 private:
  std::vector<std::int64_t> shape_;
  std::vector<Field> fields_;
};

const Registered<ReaderType> reader{"counting",
                                    {.open = [](Section& section) { return std::make_unique<CountingReader>(section); }}};

class Allocations : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(testing::leave_out_library("libdnnl")); }

  /// Trains and checks all steps but the first ones.
  void expect_none(int ranks, Options options, const std::vector<int>& nodes = {}) {
    constexpr std::int64_t kSteps = 16, kWarmUp = 6;
    options = testing::with({{"train.directory", (folder_.path() / "run").string()}, {"train.max_steps", kSteps},
                             {"train.log_every", std::int64_t{1000}}, {"train.threads", std::int64_t{1}},
                             {"data.train.reader", std::string("counting")}, {"data.threads", std::int64_t{0}},
                             {"data.batch", std::int64_t{4}}, {"optimizer.type", std::string("adam")},
                             {"exchange.first_bucket_mib", 0.004}, {"exchange.bucket_mib", 0.02}},
                            options);
    CountingReader::reads = 0;
    (void)testing::train_with(ranks, options, {}, nodes);
    const auto batches = static_cast<std::size_t>(ranks) * static_cast<std::size_t>(accumulate_);
    ASSERT_EQ(CountingReader::reads, static_cast<std::size_t>(kSteps) * batches);
    const std::size_t from = CountingReader::counts[static_cast<std::size_t>(kWarmUp) * batches];
    // The last step's log line allocates.
    EXPECT_EQ(CountingReader::counts[static_cast<std::size_t>(kSteps - 1) * batches] - from, 0u);
  }

  static Options mlp() {
    return {{"model.type", std::string("mlp")}, {"model.hidden", numbers({70, 33})},
            {"data.train.shape", numbers({9, 5, 1})}};
  }

  testing::TemporaryFolder folder_;
  std::int64_t accumulate_ = 1;
};

TEST_F(Allocations, NoneInAStepWithEveryOptimizer) {
  for (const std::string& name : Registry<OptimizerType>::instance().names()) {
    for (const int ranks : {1, 3}) {
      for (const bool shared : {true, false}) {
        SCOPED_TRACE(name + " on " + std::to_string(ranks) + (shared ? " ranks that share parameters" : " ranks"));
        expect_none(ranks, testing::with(mlp(), {{"optimizer.type", name}, {"exchange.shared_parameters", shared}}));
      }
    }
  }
}

TEST_F(Allocations, NoneInAStepOfEveryModel) {
  const auto n = [](std::int64_t value) { return value; };
  const std::vector<std::pair<std::string, Options>> models = {
      {"lenet", {{"data.train.shape", numbers({16, 16, 1})}}},
      {"cnn", {{"data.train.shape", numbers({16, 16, 1})}, {"model.filters", numbers({3, 4})}, {"model.hidden", n(9)}}},
      {"resnet", {{"data.train.shape", numbers({8, 8, 3})}, {"model.depth", n(8)}, {"model.width", n(4)},
                  {"model.over_ranks", true}}},
      {"autoencoder", {{"data.train.shape", numbers({16, 16, 1})}, {"model.code", n(3)}}},
      {"gpt", {{"data.train.shape", numbers({9})}, {"model.layers", n(2)}, {"model.width", n(12)}, {"model.heads", n(3)},
               {"model.dropout", 0.1}}},
      {"lstm", {{"data.train.shape", numbers({7})}, {"model.units", n(10)}, {"model.width", n(6)}}},
  };
  for (const auto& [name, options] : models) {
    for (const int ranks : {1, 2}) {
      SCOPED_TRACE(name + " on " + std::to_string(ranks) + " ranks");
      expect_none(ranks, testing::with({{"model.type", name}}, options));
    }
  }
}

TEST_F(Allocations, NoneHoweverTheSumsComeAbout) {
  for (const std::string& algorithm : Registry<CollectiveType>::instance().names()) {
    if (algorithm == "mpi") continue;               // not between threads
    SCOPED_TRACE(algorithm);
    expect_none(3, testing::with(mlp(), {{"exchange.algorithm", algorithm}}));
  }
  for (const std::string& codec : Registry<CodecType>::instance().names()) {
    SCOPED_TRACE(codec);
    expect_none(2, testing::with(mlp(), {{"exchange.codec", codec}}));
  }
  for (const std::int64_t stage : {1, 2, 3}) {
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE("sharded, stage " + std::to_string(stage) + " on " + std::to_string(ranks) + " ranks");
      const Options sharded = {{"train.updater", std::string("sharded")}, {"updater.stage", stage}, {"optimizer.type", std::string("lamb")}};
      expect_none(ranks, testing::with(mlp(), sharded));
    }
  }
  for (const int ranks : {1, 3}) {
    for (const std::int64_t every : {1, 3}) {
      SCOPED_TRACE("local_sgd, an average every " + std::to_string(every) + " steps on " + std::to_string(ranks) + " ranks");
      expect_none(ranks, testing::with(mlp(), {{"train.updater", std::string("local_sgd")}, {"updater.average_every", every}}));
    }
  }
  SCOPED_TRACE("two machines, an exchange thread, kernel threads, clipping, accumulated batches");
  expect_none(4, mlp(), {0, 0, 1, 1});
  expect_none(2, testing::with(mlp(), {{"exchange.thread", std::string("on")}}));
  expect_none(2, testing::with(mlp(), {{"train.threads", std::int64_t{2}}, {"train.clip_norm", 0.1}}));
  accumulate_ = 2;
  expect_none(2, testing::with(mlp(), {{"train.accumulate", std::int64_t{2}}}));
  expect_none(2, testing::with(mlp(), {{"train.accumulate", std::int64_t{2}}, {"train.deterministic", true}}));
  SCOPED_TRACE("error feedback between machines");
  expect_none(2,
              testing::with(mlp(), {{"train.accumulate", std::int64_t{2}},
                                    {"exchange.codec", std::string("int8")},
                                    {"exchange.dense_steps", std::int64_t{0}},
                                    {"exchange.algorithm", std::string("direct")}}),
              {0, 1});
}

/// An hour of a worker that is always late, at a gradient a second: every one is received and dropped, and nothing piles up.
TEST(LateGradients, TakeNoMemory) {
  constexpr int kWarmUp = 16, kHour = 3600;
  std::size_t before = 0, after = 0;
  std::int64_t bytes_before = 0, bytes_after = 0;
  run_as_threads(2, [&](Communicator& communicator) {
    Graph graph;
    (void)graph.variable("weights", Shape{3000}, "zeros");
    Session session(graph, {});
    Section sgd("optimizer");
    const auto optimizer = make_optimizer(sgd);
    const ParameterLayout places(graph, [](auto names, auto) { return std::vector<ParameterGroup>(names.size()); });
    Parameters parameters(session, places, optimizer->slots()), kept(session, places, optimizer->slots());
    ClusterOptions cluster;
    cluster.ps = 1;
    cluster.piece_mib = 0.005;                       // more than one piece
    const TaskLayout layout(places, cluster, ExchangeOptions(), communicator.size());
    Communicator alone = communicator.split(communicator.rank());
    if (communicator.rank() == 0) {
      kept.keep(session, layout.shards[0]);
      ParameterStore store(kept, *optimizer, session.pool(), alone, {});
      ParameterTask task(communicator, layout, 0, store);
      int arrived = 0;
      task.on_arrival([&](int worker, std::int64_t gradient) {
        (void)task.follow({.worker = worker, .gradient = gradient});          // dropped
        if (++arrived == kWarmUp) before = testing::allocations(), bytes_before = task.bytes();
      });
      communicator.wait(WaitStatus{.operation = "late gradients"}, [&] { return (void)task.turn(), arrived == kWarmUp + kHour; });
      after = testing::allocations();
      bytes_after = task.bytes();
      EXPECT_EQ(store.version(), 0);
    } else {
      parameters.place_values_alone(session);
      const std::array whole{FlatRange{0, places.flat_size()}};
      const GradientStore memory(places, session.device(), whole);
      GradientPush push(communicator, layout, places, memory, session.device());
      for (int i = 0; i < kWarmUp + kHour; ++i) {
        push.begin(i);
        push.ready(0);
        (void)push.finish();
      }
      communicator.wait(WaitStatus{.operation = "last push"}, [&] { return push.poll(); });
    }
    barrier(communicator);
  });
  EXPECT_EQ(bytes_before, bytes_after);
  EXPECT_LE(after - before, 8u);                       // the sender's first turns around its own buffers
}

}  // namespace
}  // namespace cohort
