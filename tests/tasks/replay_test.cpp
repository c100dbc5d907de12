// Workers in virtual time (updater.schedule = "replay"): against one process, against replicas, and against a few lines of arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>

#include "cohort/data/reader.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/tasks/virtual_time.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_close;
using testing::expect_same_bits;
using testing::numbers;
using testing::Options;
using testing::tensors_of;
using testing::TemporaryFolder;
using testing::train_with;
using testing::with;

constexpr bool kBrief = COHORT_BRIEF;

/// The last value of a metric.
double metric(const TrainResult& result, const std::string& name) {
  std::ifstream file(result.directory / "metrics.jsonl");
  const std::string text{std::istreambuf_iterator<char>(file), {}}, key = "\"" + name + "\":";
  const std::size_t at = text.rfind(key);
  EXPECT_NE(at, std::string::npos) << name;
  return at == std::string::npos ? std::nan("") : std::stod(text.substr(at + key.size()));
}

Options learners(std::int64_t n, const Options& changes = {}) {
  return with({{"updater.schedule", std::string("replay")}, {"updater.replay.learners", n}}, changes);
}
Options async(std::int64_t n, const Options& changes = {}) {
  return learners(n, with({{"train.updater", std::string("async")}}, changes));
}
Options sync(std::int64_t n, const Options& changes = {}) {
  return learners(n, with({{"train.updater", std::string("sync_with_backups")}}, changes));
}

class Replayed : public ::testing::Test {
 protected:
  [[nodiscard]] Options mlp(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.epochs", std::int64_t{3}}, {"model.type", std::string("mlp")},
                 {"model.hidden", numbers({40, 33})}, {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{96}},
                 {"data.train.shape", numbers({5, 4, 1})}, {"data.global_batch", std::int64_t{24}}, {"data.threads", std::int64_t{0}},
                 {"optimizer.type", std::string("sgd")}, {"schedule.learning_rate", 0.01}, {"train.threads", std::int64_t{1}}},
                changes);
  }

  TemporaryFolder folder_;
};

const std::map<std::string, Options> kRules = {
    {"sync", sync(5)},
    {"sync with backups", sync(5, {{"updater.replicas_to_aggregate", std::int64_t{3}}})},
    {"several batches a learner", sync(3, {{"updater.replicas_to_aggregate", std::int64_t{7}}})},
    {"async", async(5)},
    {"soft sync", async(5, {{"updater.soft_sync", std::int64_t{2}}, {"updater.lr_by_staleness", true}})},
    {"bound", async(5, {{"updater.bound", std::int64_t{1}}, {"updater.replay.stall_probability", 0.2}})},
    {"delay compensation", async(5, {{"updater.delay_compensated", std::string("constant")}, {"updater.compensation_lambda", 2.0}})},
    {"adaptive", async(5, {{"updater.delay_compensated", std::string("adaptive")}, {"updater.compensation_lambda", 2.0}})},
};

TEST_F(Replayed, TwiceIsTheSameBits) {
  for (const auto& [name, rules] : kRules) {
    SCOPED_TRACE(name);
    const Options job = with(mlp({{"train.deterministic", true}, {"data.train.samples", std::int64_t{89}}, {"optimizer.momentum", 0.9}}), rules);
    const TrainResult first = train_with(1, job), second = train_with(1, with(job, {{"train.threads", std::int64_t{2}}}));
    expect_same_bits(first.checkpoint, second.checkpoint);
    EXPECT_EQ(first.loss, second.loss);
    EXPECT_EQ(metric(first, "virtual_time"), metric(second, "virtual_time"));
  }
}

TEST_F(Replayed, AnotherSeedIsAnotherOrder) {
  const Options job = with(mlp(), async(5));
  const TrainResult first = train_with(1, job), second = train_with(1, with(job, {{"updater.replay.seed", std::int64_t{2}}}));
  EXPECT_EQ(first.steps, second.steps);
  EXPECT_NE(metric(first, "virtual_time"), metric(second, "virtual_time"));
  EXPECT_FALSE(tensors_of(first.checkpoint) == tensors_of(second.checkpoint));
}

TEST_F(Replayed, OneLearnerIsPlainTraining) {
  for (const std::string& name : Registry<OptimizerType>::instance().names()) {
    if (kBrief && name != "sgd" && name != "lamb") continue;
    const Options base = mlp({{"optimizer.type", name}, {"train.clip_norm", 0.5}, {"data.train.samples", std::int64_t{89}}});
    const TrainResult plain = train_with(1, base);
    for (const Options& rules : {sync(1), async(1), async(1, {{"updater.soft_sync", std::int64_t{1}}, {"updater.bound", std::int64_t{0}}})}) {
      SCOPED_TRACE(name);
      const TrainResult result = train_with(1, with(base, rules));
      EXPECT_EQ(result.steps, plain.steps);
      expect_close(plain.checkpoint, result.checkpoint, 2e-6);
      EXPECT_NEAR(plain.loss, result.loss, 1e-5 * std::fabs(plain.loss));
    }
  }
}

/// In steps, and where nobody begins the next gradient before all of a round are there.
TEST_F(Replayed, LearnersInStepsAreReplicas) {
  const Options changes[] = {{},
                             {{"data.train.samples", std::int64_t{89}}},                                        // 89 = 3 · 24 + 17
                             {{"data.train.samples", std::int64_t{49}}},                                        // a last batch of one sample
                             {{"data.train.samples", std::int64_t{89}}, {"data.drop_last", true}},
                             {{"train.accumulate", std::int64_t{2}}, {"data.train.samples", std::int64_t{89}}},
                             {{"train.max_steps", std::int64_t{7}}}};
  for (const Options& change : changes) {
    const Options base = mlp(with({{"optimizer.type", std::string("adam")}}, change));
    const TrainResult replicas = train_with(1, base);
    for (const std::int64_t n : kBrief ? std::vector<std::int64_t>{3} : std::vector<std::int64_t>{2, 3, 8, 31}) {
      SCOPED_TRACE((change.empty() ? "" : change.begin()->first + ", ") + std::to_string(n) + " learners");
      const TrainResult steps = train_with(1, with(base, sync(n, {{"updater.replay.jitter", 0.9}})));
      EXPECT_EQ(steps.steps, replicas.steps);
      expect_close(replicas.checkpoint, steps.checkpoint, 2e-6);
      if (!change.empty() || 24 % n != 0) continue;      // gradients of a round with batches of their own
      const TrainResult rounds = train_with(1, with(base, async(n, {{"updater.bound", std::int64_t{0}}, {"updater.soft_sync", std::int64_t{1}}})));
      EXPECT_EQ(rounds.steps, replicas.steps);
      expect_close(replicas.checkpoint, rounds.checkpoint, 2e-6);
    }
  }
}

TEST_F(Replayed, RunningStatisticsAreThoseOfReplicas) {
  Options base = mlp({{"model.type", std::string("resnet")}, {"model.depth", std::int64_t{8}}, {"data.train.shape", numbers({16, 16, 1})},
                      {"data.train.samples", std::int64_t{12}}, {"data.global_batch", std::int64_t{6}}, {"train.epochs", std::int64_t{2}}});
  base.erase("model.hidden");
  const TrainResult replicas = train_with(3, base), result = train_with(1, with(base, sync(3)));
  expect_close(replicas.checkpoint, result.checkpoint, 1e-4);
}

TEST_F(Replayed, ValidationAndPhasesAreThoseOfReplicas) {
  const Options base = mlp({{"data.validation.reader", std::string("synthetic")}, {"data.validation.samples", std::int64_t{37}},
                            {"data.validation.shape", numbers({5, 4, 1})}, {"data.global_batch", std::int64_t{0}}, {"data.batch", std::int64_t{7}},
                            {"warmup.epochs", std::int64_t{1}}});
  const TrainResult replicas = train_with(3, base), result = train_with(1, with(base, sync(3)));
  ASSERT_TRUE(result.validation);
  EXPECT_EQ(result.steps, replicas.steps);
  EXPECT_EQ(result.validation->samples, 37);
  EXPECT_NEAR(result.validation->loss, replicas.validation->loss, 1e-5);
  EXPECT_NEAR(result.validation->metrics[0].second, replicas.validation->metrics[0].second, 1e-6);
  expect_close(replicas.checkpoint, result.checkpoint, 2e-6);
}

/// What is under way is awaited before the state is saved, and times are drawn by the step at which that was, so a run that resumes there
/// goes on as the whole one did.
TEST_F(Replayed, AResumedRunHasTheSameBits) {
  for (const char* name : {"sync with backups", "async"}) {
    SCOPED_TRACE(name);
    const Options job = with(mlp({{"train.deterministic", true}, {"optimizer.momentum", 0.9}}), kRules.at(name));
    const TrainResult all = train_with(1, job), part = train_with(1, with(job, {{"train.epochs", std::int64_t{2}}}));
    expect_same_bits(all.checkpoint, train_with(1, job, part.directory.string()).checkpoint);
  }
}

TEST_F(Replayed, MeanStalenessOfSoftSyncIsN) {
  const Options base = mlp({{"data.train.samples", std::int64_t{kBrief ? 1200 : 6000}}, {"data.global_batch", std::int64_t{30}},
                            {"model.hidden", numbers({3})}, {"schedule.learning_rate", 1e-4}, {"train.epochs", std::int64_t{2}}});
  for (const std::int64_t n : {1, 6, 15, 30}) {
    SCOPED_TRACE(n);
    const TrainResult result = train_with(1, with(base, async(30, {{"updater.soft_sync", n}})));
    EXPECT_NEAR(metric(result, "staleness/mean"), static_cast<double>(n), 0.1 * static_cast<double>(n));
    EXPECT_LE(metric(result, "staleness/largest"), static_cast<double>(2 * n));
    EXPECT_EQ(result.steps, 2 * (kBrief ? 1200 : 6000) * n / 30);       // a gradient is of one sample
  }
}

TEST_F(Replayed, NobodyIsFurtherAheadThanTheBound) {
  const Options base = mlp({{"data.train.samples", std::int64_t{kBrief ? 400 : 2000}}, {"data.global_batch", std::int64_t{8}}, {"model.hidden", numbers({3})},
                            {"schedule.learning_rate", 1e-4}});
  const Options stalls{{"updater.replay.stall_probability", 0.05}, {"updater.replay.stall_factor", 9.0}};
  double before = 0;
  for (const std::int64_t bound : {0, 1, 3}) {
    SCOPED_TRACE(bound);
    const TrainResult result = train_with(1, with(base, async(8, with(stalls, {{"updater.bound", bound}}))));
    EXPECT_EQ(metric(result, "largest_gap"), static_cast<double>(bound + 1));
    EXPECT_GT(metric(result, "workers/0/waited"), 0);
    EXPECT_GT(metric(result, "updates_per_virtual_time"), before);       // slack is worth something where stalls are transient
    before = metric(result, "updates_per_virtual_time");
  }
  const TrainResult free = train_with(1, with(base, async(8, stalls)));
  EXPECT_GT(metric(free, "largest_gap"), 6);
  EXPECT_EQ(metric(free, "workers/0/waited"), 0);
}

TEST_F(Replayed, BackupsTakeTheStallsOutOfSteps) {
  const Options base = mlp({{"data.train.samples", std::int64_t{800}}, {"data.global_batch", std::int64_t{8}}, {"model.hidden", numbers({3})},
                            {"updater.replay.jitter", 0.0}, {"updater.replay.slow_learner", std::int64_t{2}}, {"updater.replay.slow_factor", 3.0}});
  const TrainResult all = train_with(1, with(base, sync(8)));
  const TrainResult most = train_with(1, with(base, sync(8, {{"updater.replicas_to_aggregate", std::int64_t{7}}})));
  EXPECT_DOUBLE_EQ(metric(all, "virtual_step/mean"), 3);
  EXPECT_DOUBLE_EQ(metric(most, "virtual_step/p95"), 1);
  EXPECT_EQ(metric(most, "workers/2/applied"), 0);
  EXPECT_GT(metric(most, "workers/2/dropped"), 0);
}

TEST_F(Replayed, RefusesWhatItCannotDo) {
  const auto refuses = [&](int ranks, const Options& changes, const std::string& reason) {
    try {
      train_with(ranks, with(with(mlp(), async(3)), changes));
      ADD_FAILURE() << "accepted, where '" << reason << "' was due";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  };
  refuses(2, {}, "the job has 2 ranks");
  refuses(1, {{"cluster.ps", std::int64_t{1}}}, "there are no parameter tasks");
  refuses(1, {{"exchange.codec", std::string("int8")}}, "nothing is sent");
  refuses(1, {{"updater.replay.slow_learner", std::int64_t{3}}}, "learners are 0 to 2");
}

// Against a few lines of arithmetic -----------------------------------------------------------------------------------------------

/// Two numbers x and y = 2 x₀ - x₁ + 0.5 plus some noise, in an order that never changes.
struct Sample {
  double x[2], y;
  explicit Sample(std::int64_t i)
      : x{std::sin(1.7 * static_cast<double>(i)), std::cos(0.9 * static_cast<double>(i))},
        y(2 * x[0] - x[1] + 0.5 + 0.3 * std::sin(12.9 * static_cast<double>(i))) {}
};

class PlaneReader final : public Reader {
 public:
  explicit PlaneReader(Section& section) {
    section.bind("samples", samples_, "");
    section.bind("poison", poison_, "this one is not a number");
  }
  std::int64_t size() const override { return samples_; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const Sample sample(samples[i]);
      for (std::size_t k = 0; k < 2; ++k) static_cast<float*>(buffers[0])[2 * i + k] = static_cast<float>(sample.x[k]);
      const bool bad = static_cast<std::int64_t>(samples[i]) == poison_;
      static_cast<float*>(buffers[1])[i] = bad ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(sample.y);
    }
  }

 private:
  std::int64_t samples_ = 0, poison_ = -1;
  std::vector<Field> fields_{{"x", DType::float32, {2}}, {"y", DType::float32, {1}}};
};
const Registered<ReaderType> plane_reader{"test_plane", {[](Section& s) { return std::make_unique<PlaneReader>(s); }}};
const Registered<ModelType> plane{"test_plane", {[](Section&) -> ModelBuilder {
                                    return [](Graph&, const Batch& b) -> Model {
                                      return {.loss = mean_squared_error(nn::dense(b["x"], 1, "plane"), b["y"])};
                                    };
                                  }}};

constexpr std::int64_t kSamples = 37, kBatch = 4;      // a last batch of one sample
constexpr int kLearners = 5, kEpochs = 6;
constexpr double kRate = 0.05;
using Weights = std::array<double, 3>;               // of x₀ and x₁, and what is added

/// What a case does differently.
struct Policy {
  std::string name;
  Options options;
  std::function<double(double staleness)> rate = [](double) { return 1.0; }, scale = [](double) { return 1.0; };
  double drop_above = 1e9, lambda = 0, decay = 0, clip = 0, momentum = 0, clip_norm = 0;
  std::int64_t bound = 1'000'000, per_update = 1;
  bool adaptive = false, drains = false;             // at the end of an epoch
  friend void PrintTo(const Policy& policy, std::ostream* out) { *out << policy.name; }
};

struct Expected {
  Weights weights;
  std::int64_t steps = 0, dropped = 0;
  double time = 0, staleness = 0;
};

/// Event by event, in doubles; of the product only the times of gradients are taken.
class Simulation {
 public:
  Simulation(const Policy& policy, const Weights& start) : policy_(policy), weights_(start) {}

  Expected run() {
    for (std::int64_t at = 0; at < kEpochs * kSamples || !queue_.empty();) {
      if (!(draining_ && !queue_.empty())) {
        if (draining_) restart();
        for (int l = 0; l < kLearners && at < kEpochs * kSamples && !draining_; ++l) {
          if (!busy_[l] && clocks_[l] - *std::ranges::min_element(clocks_) <= policy_.bound) at = begin(l, at);
        }
      }
      const auto first = queue_.begin();
      now_ = first->first;
      const int learner = first->second;
      queue_.erase(first);
      finish(learner);
    }
    return {weights_, steps_, dropped_, now_, stale_sum_ / static_cast<double>(gradients_)};
  }

 private:
  void restart() {
    draining_ = false;
    origin_ = steps_;
    numbers_.fill(0);
  }

  std::int64_t begin(int l, std::int64_t at) {
    const std::int64_t n = std::min(kBatch, kSamples - at % kSamples);
    Weights& g = gradients_of_[l];
    g.fill(0);
    for (std::int64_t i = at; i < at + n; ++i) {
      const Sample s(i % kSamples);
      const double e = 2 * (weights_[0] * s.x[0] + weights_[1] * s.x[1] + weights_[2] - s.y) / static_cast<double>(n);
      g[0] += e * s.x[0], g[1] += e * s.x[1], g[2] += e;
    }
    read_[l] = weights_;
    version_read_[l] = steps_;
    busy_[l] = true;
    VirtualTime time(options_);
    time.begin_at(origin_);
    queue_.emplace(now_ + time.duration(l, numbers_[l]++), l);
    draining_ = policy_.drains && (at + n) % kSamples == 0;
    return at + n;
  }

  void finish(int l) {
    busy_[l] = false;
    ++clocks_[l];
    ++gradients_;
    const double staleness = static_cast<double>(steps_ - version_read_[l]);
    stale_sum_ += staleness;
    if (staleness > policy_.drop_above) {
      ++dropped_;
      return;
    }
    Weights g = gradients_of_[l];
    const double norm = std::sqrt(g[0] * g[0] + g[1] * g[1] + g[2] * g[2]);
    const double clipped = policy_.clip_norm > 0 && norm > policy_.clip_norm ? policy_.clip_norm / norm : 1;
    for (std::size_t k = 0; k < 3; ++k) {
      double lambda = policy_.lambda;
      if (policy_.adaptive) {
        square_[k] = policy_.decay * square_[k] + (1 - policy_.decay) * g[k] * g[k];
        lambda /= std::sqrt(square_[k] + 1e-7);
      }
      double correction = lambda * g[k] * g[k] * (weights_[k] - read_[l][k]);
      if (policy_.clip > 0) correction = std::clamp(correction, -policy_.clip * std::fabs(g[k]), policy_.clip * std::fabs(g[k]));
      sum_[k] += policy_.rate(staleness) * policy_.scale(staleness) * clipped * (g[k] + correction);
    }
    rates_ += policy_.rate(staleness);
    if (++accepted_ < policy_.per_update) return;
    // The rate of an update is the mean of what its gradients ask for; momentum keeps gradients, not steps.
    const double rate = kRate * rates_ / static_cast<double>(accepted_);
    for (std::size_t k = 0; k < 3; ++k) {
      velocity_[k] = policy_.momentum * velocity_[k] + sum_[k] / rates_;
      weights_[k] -= rate * velocity_[k];
      sum_[k] = 0;
    }
    rates_ = 0;
    accepted_ = 0;
    ++steps_;
  }

  const Policy& policy_;
  ReplayOptions options_ = [] {
    ReplayOptions options;
    options.learners = kLearners;
    return options;
  }();
  Weights weights_, square_{}, sum_{}, velocity_{};
  std::multimap<double, int> queue_;
  std::array<bool, kLearners> busy_{};
  std::array<std::int64_t, kLearners> clocks_{}, numbers_{}, version_read_{};
  std::array<Weights, kLearners> gradients_of_{}, read_{};
  std::int64_t steps_ = 0, origin_ = 0, dropped_ = 0, accepted_ = 0, gradients_ = 0;
  double now_ = 0, rates_ = 0, stale_sum_ = 0;
  bool draining_ = false;
};

std::vector<Policy> policies() {
  const auto by_staleness = [](double s) { return s < 1 ? 1.0 : 1 / s; };
  return {
      {.name = "plain", .options = {}},
      {.name = "momentum", .options = {{"optimizer.momentum", 0.8}}, .momentum = 0.8},
      {.name = "drop_above", .options = {{"updater.drop_above", std::int64_t{3}}}, .drop_above = 3},
      {.name = "lr_by_staleness", .options = {{"updater.lr_by_staleness", true}}, .rate = by_staleness},
      {.name = "lr_by_staleness, momentum", .options = {{"updater.lr_by_staleness", true}, {"optimizer.momentum", 0.8}}, .rate = by_staleness, .momentum = 0.8},
      {.name = "lr_by_staleness, soft_sync", .options = {{"updater.lr_by_staleness", true}, {"updater.soft_sync", std::int64_t{2}}}, .rate = by_staleness,
       .per_update = 2},
      {.name = "scale_back inverse", .options = {{"updater.scale_back", std::string("inverse")}, {"updater.scale_back_rate", 0.7}},
       .scale = [](double s) { return 1 / (1 + 0.7 * s); }},
      {.name = "scale_back inverse_sqrt", .options = {{"updater.scale_back", std::string("inverse_sqrt")}, {"updater.scale_back_rate", 0.7}},
       .scale = [](double s) { return std::pow(1 + 0.7 * s, -0.5); }},
      {.name = "scale_back exponential", .options = {{"updater.scale_back", std::string("exponential")}, {"updater.scale_back_rate", 0.3}},
       .scale = [](double s) { return std::exp(-0.3 * s); }},
      {.name = "constant compensation", .options = {{"updater.delay_compensated", std::string("constant")}, {"updater.compensation_lambda", 1.5},
                                                    {"updater.compensation_clip", 0.0}}, .lambda = 1.5},
      {.name = "clipped compensation", .options = {{"updater.delay_compensated", std::string("constant")}, {"updater.compensation_lambda", 5.0},
                                                   {"updater.compensation_clip", 0.2}}, .lambda = 5, .clip = 0.2},
      {.name = "adaptive compensation", .options = {{"updater.delay_compensated", std::string("adaptive")}, {"updater.compensation_lambda", 0.5},
                                                    {"updater.compensation_decay", 0.9}}, .lambda = 0.5, .decay = 0.9, .clip = 1, .adaptive = true},
      {.name = "bound", .options = {{"updater.bound", std::int64_t{0}}}, .bound = 0},
      {.name = "clip_norm", .options = {{"train.clip_norm", 0.4}}, .clip_norm = 0.4},
      {.name = "saved every epoch", .options = {{"checkpoint.every_epochs", std::int64_t{1}}}, .drains = true},
      {.name = "all at once",
       .options = {{"updater.lr_by_staleness", true}, {"updater.drop_above", std::int64_t{5}}, {"updater.scale_back", std::string("inverse")},
                   {"updater.scale_back_rate", 0.1}, {"updater.delay_compensated", std::string("constant")}, {"updater.compensation_lambda", 1.0},
                   {"updater.bound", std::int64_t{2}}, {"optimizer.momentum", 0.5}},
       .rate = by_staleness, .scale = [](double s) { return 1 / (1 + 0.1 * s); }, .drop_above = 5, .lambda = 1, .clip = 1, .momentum = 0.5, .bound = 2},
  };
}

/// A plane by so many learners; no checkpoint but the last.
Options plane_job(const TemporaryFolder& folder, const Options& changes = {}) {
  return with(with({{"train.directory", (folder.path() / "plane").string()}, {"model.type", std::string("test_plane")},
                    {"data.train.reader", std::string("test_plane")}, {"data.train.samples", kSamples},
                    {"data.global_batch", std::int64_t{kBatch * kLearners}}, {"data.shuffle", false}, {"data.threads", std::int64_t{0}},
                    {"train.threads", std::int64_t{1}}, {"train.epochs", std::int64_t{kEpochs}}, {"optimizer.type", std::string("sgd")},
                    {"schedule.learning_rate", kRate}, {"checkpoint.every_epochs", std::int64_t{0}}},
                   async(kLearners)),
              changes);
}

class AgainstArithmetic : public Replayed, public ::testing::WithParamInterface<Policy> {
 protected:
  [[nodiscard]] static Weights weights_of(const TrainResult& result) {
    const auto tensors = tensors_of(result.checkpoint);
    Weights weights{};
    for (const auto& [name, values] : tensors) {
      if (!name.starts_with("/parameters")) continue;
      if (values.size() == 2) weights[0] = values[0], weights[1] = values[1];
      else weights[2] = values[0];
    }
    return weights;
  }
};

TEST_P(AgainstArithmetic, EveryPolicy) {
  const Policy& policy = GetParam();
  const Options base = plane_job(folder_);
  const Weights start = weights_of(train_with(1, with(base, {{"schedule.learning_rate", 0.0}, {"train.max_steps", std::int64_t{1}}})));
  const TrainResult result = train_with(1, with(base, policy.options));
  const Expected expected = Simulation(policy, start).run();
  const Weights found = weights_of(result);
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_NEAR(found[k], expected.weights[k], 2e-5) << k;
    EXPECT_GT(std::fabs(found[k] - start[k]), 1e-2) << "nothing was learnt";
  }
  EXPECT_EQ(result.steps, expected.steps);
  EXPECT_NEAR(metric(result, "virtual_time"), expected.time, 1e-9);
  EXPECT_NEAR(metric(result, "staleness/mean"), expected.staleness, 1e-9);
  double dropped = 0;
  for (int l = 0; l < kLearners; ++l) dropped += metric(result, "workers/" + std::to_string(l) + "/dropped");
  EXPECT_EQ(dropped, static_cast<double>(expected.dropped));
  EXPECT_EQ(policy.drop_above < 1e9, dropped > 0);
}

/// Also where they are reached while everybody is awaited at the end of an epoch.
TEST_F(Replayed, EndsAfterAsManyUpdatesAsWereAskedFor) {
  for (std::int64_t most = 1; most <= (kBrief ? 5 : 22); ++most) {
    for (const Options& rules : {Options{}, Options{{"updater.soft_sync", std::int64_t{2}}}, Options{{"updater.drop_above", std::int64_t{2}}}}) {
      const TrainResult result = train_with(1, plane_job(folder_, with(rules, {{"train.max_steps", most}, {"checkpoint.every_epochs", std::int64_t{1}}})));
      EXPECT_EQ(result.steps, most);
    }
  }
}

TEST_F(Replayed, AGradientThatIsNotFiniteIsDroppedOrSkipsItsStep) {
  const Options bad{{"data.train.poison", std::int64_t{22}}, {"train.epochs", std::int64_t{2}}};
  const TrainResult alone = train_with(1, plane_job(folder_, bad));
  EXPECT_EQ(alone.skipped, 2);
  EXPECT_EQ(alone.steps, 2 * 10 - 2);                  // it does not become an update
  const TrainResult steps = train_with(1, plane_job(folder_, with(bad, sync(kLearners))));
  EXPECT_EQ(steps.skipped, 2);
  EXPECT_EQ(steps.steps, 2 * 2);                       // of 20 and of 17 samples; the second is skipped
  for (const TrainResult& result : {alone, steps}) {
    for (const auto& [name, values] : tensors_of(result.checkpoint)) {
      for (const float value : values) EXPECT_TRUE(std::isfinite(value)) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, AgainstArithmetic, ::testing::ValuesIn(policies()), [](const auto& of) {
  std::string name = of.param.name;
  std::ranges::replace_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace cohort
