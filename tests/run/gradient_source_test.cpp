// One rank's part of an update against a plain computation: weights, several batches, and batches that do not reach a rank.
#include "run/gradient_source.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cohort/comm/thread_ranks.hpp"
#include "support/sections.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;

/// Gradients in memory of the test's own, added up batch by batch.
class PlainSink final : public GradientSink {
 public:
  explicit PlainSink(const Setup& setup)
      : parameters(*setup.parameters), sums(static_cast<std::size_t>(parameters.layout().flat_size())), device_(setup.replica->session().device()),
        memory_(sums.size()) {}

  [[nodiscard]] Tensor gradient(std::size_t p) const override {
    const Parameter& parameter = parameters.layout().trained()[p];
    return {device_, DType::float32, parameter.shape, const_cast<float*>(memory_.data()) + parameter.offset, nullptr, parameter.ld};
  }
  void ready(std::size_t, const Tensor*) override { ++ready_; }
  void poll() override {}
  void begin_batch(bool last) override {
    calls += last ? "last " : "more ";
    ready_ = 0;
  }
  void contribute_zeros() override { calls += "zeros "; }
  void end_batch() override {
    calls += "end ";
    EXPECT_EQ(ready_, parameters.layout().trained().size());
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += memory_[i];
  }
  [[nodiscard]] bool reads_on_demand() const noexcept override { return on_demand; }

  const Parameters& parameters;
  bool on_demand = false;
  std::string calls;
  std::vector<double> sums;

 private:
  Device& device_;
  std::vector<float> memory_;
  std::size_t ready_ = 0;
};

/// What came of one update on one of several ranks.
struct Part {
  std::vector<double> gradient;
  double loss = 0, weights = 0;
  std::string calls;
};

Options job(const Options& changes = {}) {
  return with({{"model.type", std::string("mlp")},
               {"model.hidden", numbers({3})},
               {"data.train.reader", std::string("synthetic")},
               {"data.train.samples", std::int64_t{5}},
               {"data.train.shape", numbers({2, 2, 1})},
               {"data.global_batch", std::int64_t{4}},
               {"data.threads", std::int64_t{0}},
               {"train.threads", std::int64_t{1}}},
              changes);
}

/// The part of rank `rank` of so many in the update of `samples` samples at a position.
Part part_of(int rank, int ranks, const Position& at, const UpdateShare& share, const Options& changes = {}, bool on_demand = false) {
  Part part;
  run_as_threads(1, [&](Communicator& alone) {
    Section config = section_of(job(changes));
    Setup setup(alone, config);
    setup.place_parameters();
    BatchPipeline data(setup.training_data, setup.pipeline, rank, ranks);
    data.seek(at);
    PlainSink sink(setup);
    sink.on_demand = on_demand;
    setup.replica->bind_gradients(setup.parameters->layout(), sink, setup.pipeline.batch);
    GradientSource source(setup, *alone.context().profile, sink,
                          {.computed = [&](const SampleBatch&, double weight, const BatchResult& result) {
                            part.loss += weight * result.loss;
                            part.weights += weight;
                          }});
    source.make(data, share);
    part.gradient = sink.sums;
    part.calls = sink.calls;
  });
  return part;
}

/// The gradient of the mean over the samples at a position, in one batch of one rank, by the replica itself.
std::vector<double> plain_gradient(const Position& at, const Options& changes = {}) {
  std::vector<double> gradient;
  run_as_threads(1, [&](Communicator& alone) {
    Section config = section_of(job(changes));
    Setup setup(alone, config);
    setup.place_parameters();
    BatchPipeline data(setup.training_data, setup.pipeline, 0, 1);
    data.seek(at);
    PlainSink sink(setup);
    setup.replica->bind_gradients(setup.parameters->layout(), sink, setup.pipeline.batch);
    sink.begin_batch(true);
    (void)setup.replica->train(*data.next(), 1, {});
    sink.end_batch();
    gradient = sink.sums;
  });
  return gradient;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  double largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
    largest = std::max(largest, std::abs(expected[i]));
  }
  EXPECT_GT(largest, 1e-3);                              // there is something to compare
}

TEST(GradientSource, PartsOfAllRanksAddUpToTheMeanOverTheUpdate) {
  std::vector<double> sum(plain_gradient({}).size(), 0);
  double weights = 0;
  for (int rank = 0; rank < 3; ++rank) {                 // of 2, 1 and 1 samples
    const Part part = part_of(rank, 3, {}, {.samples = 4});
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part.gradient[i];
    EXPECT_EQ(part.weights, rank == 0 ? 0.5 : 0.25);
    EXPECT_EQ(part.calls, "last end ");
    weights += part.weights;
  }
  EXPECT_EQ(weights, 1);
  expect_near(sum, plain_gradient({}));
}

TEST(GradientSource, WhereGradientsAreAveragedEachIsTheMeanOfItsOwnSamples) {
  EXPECT_EQ(part_of(1, 2, {}, {.samples = 4, .scale = 2}).weights, 1);
  std::vector<double> mean(plain_gradient({}).size(), 0);
  for (int share = 0; share < 2; ++share) {
    const Part part = part_of(share, 2, {}, {.samples = 4, .scale = 2});
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += part.gradient[i] / 2;
  }
  expect_near(mean, plain_gradient({}));
}

TEST(GradientSource, ABatchThatDoesNotReachThisRankIsZeros) {
  const Position last_of_epoch{.epoch = 0, .sample = 4};       // one sample is left, for rank 0
  const Part none = part_of(1, 3, last_of_epoch, {.samples = 1});
  EXPECT_EQ(none.calls, "last zeros ");
  EXPECT_EQ(none.weights, 0);
  EXPECT_THAT(none.gradient, ::testing::Each(0.0));
  expect_near(part_of(0, 3, last_of_epoch, {.samples = 1}).gradient, plain_gradient(last_of_epoch));
}

TEST(GradientSource, WhereParametersAreReadOnDemandAnEmptyBatchRunsAndAddsNothing) {
  const Part none = part_of(1, 3, {.epoch = 0, .sample = 4}, {.samples = 1}, {}, true);
  EXPECT_EQ(none.calls, "last end ");
  EXPECT_EQ(none.weights, 0);
  EXPECT_THAT(none.gradient, ::testing::Each(0.0));
}

TEST(GradientSource, SeveralBatchesMakeOneUpdateAsFarAsTheEpochGoes) {
  const Options in_two{{"data.global_batch", std::int64_t{2}}, {"train.accumulate", std::int64_t{2}}};
  const Part whole = part_of(0, 1, {}, {.samples = 4}, in_two);
  EXPECT_EQ(whole.calls, "more end last end ");
  EXPECT_EQ(whole.weights, 1);
  expect_near(whole.gradient, plain_gradient({}));
  EXPECT_EQ(part_of(0, 1, {.epoch = 0, .sample = 4}, {.samples = 1}, in_two).calls, "last end ");      // one batch is left
  EXPECT_EQ(part_of(1, 2, {.epoch = 0, .sample = 4}, {.samples = 1}, in_two).calls, "last zeros ");
}

}  // namespace
}  // namespace cohort
