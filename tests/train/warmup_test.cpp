// Runs in phases: few replicas first, other batches, other updaters; what follows is the same as if a run had been resumed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <regex>
#include <thread>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/updaters/updater.hpp"
#include "run/phases.hpp"
#include "support/patience.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_close;
using testing::expect_same_bits;
using testing::numbers;
using testing::Options;
using testing::section_of;
using testing::TemporaryFolder;
using testing::tensors_of;
using testing::train_with;
using testing::with;
using ::testing::HasSubstr;

constexpr std::int64_t kSamples = 96, kBatch = 8;
constexpr bool kBrief = COHORT_BRIEF;
const std::vector<std::int64_t> kStages = kBrief ? std::vector<std::int64_t>{3} : std::vector<std::int64_t>{1, 2, 3};

/// A phase as [[phase]] gives it.
using PhaseSections = std::vector<Options>;

class Warmup : public ::testing::Test {
 protected:
  /// Five epochs of 12 steps with one rank, 6 with two, …
  [[nodiscard]] Options options(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.check_replicas", true}, {"train.epochs", std::int64_t{5}},
                 {"train.deterministic", true}, {"train.log_every", std::int64_t{1}}, {"train.threads", std::int64_t{1}},
                 {"checkpoint.keep", std::int64_t{100}}, {"checkpoint.every_epochs", std::int64_t{2}},
                 {"model.type", std::string("mlp")}, {"model.hidden", numbers({17})},
                 {"data.train.reader", std::string("synthetic")}, {"data.train.samples", kSamples}, {"data.train.shape", numbers({4, 4, 1})},
                 {"data.batch", kBatch}, {"data.threads", std::int64_t{0}}, {"optimizer.type", std::string("adam")},
                 {"schedule.learning_rate", 0.01}, {"exchange.first_bucket_mib", 0.0005}, {"exchange.bucket_mib", 0.001}},
                changes);
  }
  [[nodiscard]] Options warmed_up(const Options& changes = {}) const {
    return with(options({{"warmup.epochs", std::int64_t{2}}}), changes);
  }

  TemporaryFolder folder_;
};

Section config_of(const Options& options, const PhaseSections& phases) {
  Section root = section_of(options);
  for (const Options& phase : phases) {
    Section& section = root.add_child_entry("phase");
    for (const auto& [key, value] : phase) {
      if (key.starts_with("updater.")) section.child("updater").set(key.substr(8), {value, "test"});
      else section.set(key, {value, "test"});
    }
  }
  return root;
}

TrainResult train_phases(int ranks, const Options& options, const PhaseSections& phases, const std::string& resume = {},
                         const ThreadRanksOptions& how = {.timeout = testing::kHung}) {
  TrainResult result;
  run_as_threads(ranks, [&](Communicator& communicator) {
    Section config = config_of(options, phases);
    const TrainResult mine = train(communicator, config, resume);
    if (communicator.rank() == 0) result = mine;
  }, how);
  return result;
}

std::filesystem::path checkpoint_of(const TrainResult& run, std::int64_t step) {
  for (const auto& file : list_checkpoints(run.directory / "checkpoints")) {
    if (file.filename().string().find(std::to_string(step) + ".h5") != std::string::npos) return file;
  }
  ADD_FAILURE() << "no checkpoint of step " << step << " in " << run.directory;
  return {};
}

/// A metric by step.
std::map<std::int64_t, double> metric(const TrainResult& run, const std::string& name) {
  std::map<std::int64_t, double> values;
  std::ifstream in(run.directory / "metrics.jsonl");
  const std::regex step("\"step\":([0-9]+)"), value("\"" + name + "\":([-+.0-9e]+)");
  for (std::string line; std::getline(in, line);) {
    std::smatch s, v;
    if (std::regex_search(line, s, step) && std::regex_search(line, v, value)) values[std::stoll(s[1])] = std::stod(v[1]);
  }
  return values;
}

/// Every updater there is, sharded in all its stages: options of [updater], beside its type.
struct UpdaterCase {
  std::string type;
  Options options{};
  /// For the whole run.
  [[nodiscard]] Options of_run() const {
    Options all{{"train.updater", type}, {"train.check_replicas", !keeps_one_copy()}};
    for (const auto& [key, value] : options) all["updater." + key] = value;
    return all;
  }
  /// For a phase.
  [[nodiscard]] Options of_phase(std::int64_t epochs, std::int64_t replicas) const {
    Options all{{"epochs", epochs}, {"replicas", replicas}, {"updater.type", type}};
    for (const auto& [key, value] : options) all["updater." + key] = value;
    return all;
  }
  [[nodiscard]] bool keeps_one_copy() const { return options.contains("stage") && std::get<std::int64_t>(options.at("stage")) == 3; }
  [[nodiscard]] std::string text() const { return keeps_one_copy() ? type + " stage 3" : type; }
};

std::vector<UpdaterCase> updaters() {
  std::vector<UpdaterCase> cases;
  for (const std::string& name : Registry<UpdaterType>::instance().names()) {
    if (name != "sharded") cases.push_back({name});
    else for (const std::int64_t stage : kStages) cases.push_back({name, {{"stage", stage}}});
  }
  return cases;
}

TEST_F(Warmup, IsOneRankFirstAndThenARunResumedOnAll) {
  for (const UpdaterCase& updater : updaters()) {
    for (const int ranks : updater.type == "sync_replicas" ? std::vector{2, 3, 4} : std::vector{3}) {
      SCOPED_TRACE(updater.text() + " on " + std::to_string(ranks));
      const Options base = warmed_up(updater.of_run());
      const TrainResult alone = train_with(1, with(base, {{"train.epochs", std::int64_t{2}}}));
      const TrainResult both = train_with(ranks, base);
      EXPECT_EQ(alone.steps, 24);
      EXPECT_EQ(both.steps, 24 + 3 * (kSamples / kBatch / ranks));
      expect_same_bits(alone.checkpoint, checkpoint_of(both, 24));
      // The same without any warm-up from the lone rank's checkpoint.
      const TrainResult resumed = train_with(ranks, options(updater.of_run()), alone.checkpoint.string());
      EXPECT_EQ(resumed.steps, both.steps);
      expect_same_bits(resumed.checkpoint, both.checkpoint);
      EXPECT_EQ(resumed.loss, both.loss);
    }
  }
}

TEST_F(Warmup, RanksThatShareNothingGetTheStateAsWell) {
  const Options base = warmed_up({{"exchange.shared_parameters", false}, {"optimizer.type", std::string("lamb")}});
  const TrainResult alone = train_with(1, with(base, {{"train.epochs", std::int64_t{2}}}));
  const TrainResult three = train_with(3, base);
  expect_same_bits(train_with(3, base, alone.checkpoint.string()).checkpoint, three.checkpoint);
  // Over several machines, two replicas first.
  const Options two = with(base, {{"warmup.replicas", std::int64_t{2}}});
  const TrainResult pair = train_with(2, with(two, {{"train.epochs", std::int64_t{2}}}), {}, {0, 1});
  const TrainResult four = train_with(4, two, {}, {0, 1, 0, 1});
  expect_same_bits(pair.checkpoint, checkpoint_of(four, 12));
  expect_same_bits(train_with(4, two, pair.checkpoint.string(), {0, 1, 0, 1}).checkpoint, four.checkpoint);
}

TEST_F(Warmup, ResumedBeforeAtAndAfterTheSwitchIsNeverStopped) {
  for (const UpdaterCase& updater : updaters()) {
    // A checkpoint where the run is stopped: local_sgd averages for it.
    const Options base = warmed_up(with(updater.of_run(), {{"checkpoint.every_epochs", std::int64_t{0}},
                                                           {"checkpoint.every_steps", std::int64_t{27}}}));
    const TrainResult whole = train_with(3, base);
    ASSERT_EQ(whole.steps, 24 + 3 * 4);
    for (const std::int64_t stop : kBrief ? std::vector<std::int64_t>{24} : std::vector<std::int64_t>{5, 24, 27}) {
      SCOPED_TRACE(updater.text() + " stopped after step " + std::to_string(stop));
      const TrainResult first = train_with(3, with(base, {{"train.max_steps", stop}}));
      const TrainResult second = train_with(3, base, first.directory.string());
      EXPECT_EQ(second.steps, whole.steps);
      expect_same_bits(whole.checkpoint, second.checkpoint);
    }
  }
}

TEST_F(Warmup, TheScheduleGoesOnInEpochsWithTheBatchOfThoseWhoTrain) {
  const TrainResult run = train_with(4, warmed_up({{"schedule.type", std::string("linear")}, {"schedule.scale_with_batch", true},
                                                   {"schedule.reference_batch", std::int64_t{8}}, {"schedule.warmup_epochs", 1.0}}));
  const auto rates = metric(run, "learning_rate"), replicas = metric(run, "replicas"), batches = metric(run, "batch");
  ASSERT_EQ(rates.size(), 24u + 9);
  for (std::int64_t step = 1; step <= 33; ++step) {
    const bool warm = step <= 24;
    const double full = warm ? 0.01 : 0.04, epoch = warm ? static_cast<double>(step - 1) / 12 : 2 + static_cast<double>(step - 25) / 3;
    const double expected = epoch < 1 ? full * (0.1 + 0.9 * epoch) : full * (1 - (epoch - 1) / 4);
    EXPECT_NEAR(rates.at(step), expected, 1e-9) << step;
    EXPECT_EQ(replicas.at(step), warm ? 1 : 4);
    EXPECT_EQ(batches.at(step), warm ? 8 : 32);
  }
}

TEST_F(Warmup, BatchesByEpochAreRunsGluedTogether) {
  for (const UpdaterCase& updater : updaters()) {
    SCOPED_TRACE(updater.text());
    const Options base = options(updater.of_run());
    const PhaseSections phases{{{"epochs", std::int64_t{1}}, {"batch", std::int64_t{4}}}, {{"epochs", std::int64_t{2}}},
                               {{"batch", std::int64_t{16}}}};
    const TrainResult run = train_phases(2, base, phases);
    EXPECT_EQ(run.steps, 12 + 2 * 6 + 2 * 3);
    const auto up_to = [](std::int64_t epochs, std::int64_t batch) { return Options{{"train.epochs", epochs}, {"data.batch", batch}}; };
    TrainResult glued = train_with(2, with(base, up_to(1, 4)));
    glued = train_with(2, with(base, up_to(3, 8)), glued.directory.string());
    glued = train_with(2, with(base, up_to(5, 16)), glued.directory.string());
    EXPECT_EQ(run.steps, glued.steps);
    expect_same_bits(run.checkpoint, glued.checkpoint);
  }
}

TEST_F(Warmup, ReplicasMayLeaveAndComeBackWithAnotherUpdater) {
  const std::vector<UpdaterCase> all = updaters();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const UpdaterCase& first = all[i];
    for (const UpdaterCase& second : {all[(i + 1) % all.size()], all[(i + 2) % all.size()]}) {
      SCOPED_TRACE(first.text() + ", " + second.text());
      const PhaseSections phases{first.of_phase(1, 3), second.of_phase(1, 2), first.of_phase(1, 4)};
      const Options base = options({{"train.epochs", std::int64_t{3}}, {"train.check_replicas", false},
                                    {"checkpoint.every_epochs", std::int64_t{0}}});
      const TrainResult run = train_phases(4, base, phases);
      EXPECT_EQ(run.steps, 4 + 6 + 3);
      // The same from checkpoints: each phase by a job of its own.
      TrainResult glued;
      for (std::int64_t epoch = 1; epoch <= 3; ++epoch) {
        glued = train_phases(4, with(base, {{"train.epochs", epoch}}), phases, glued.directory.string());
      }
      expect_same_bits(run.checkpoint, glued.checkpoint);
    }
  }
}

TEST_F(Warmup, ResidualsOfErrorFeedbackGoAlong) {
  const Options base = options({{"train.deterministic", false}, {"train.check_replicas", true}, {"train.epochs", std::int64_t{4}},
                                {"exchange.codec", std::string("int8")}, {"exchange.dense_steps", std::int64_t{0}},
                                {"exchange.small_elements", std::int64_t{0}}, {"exchange.algorithm", std::string("direct")}});
  const ThreadRanksOptions apart{.nodes = {0, 1, 2, 3}, .timeout = testing::kHung};
  const auto phase = [](std::int64_t replicas, std::int64_t batch) {
    return Options{{"epochs", std::int64_t{1}}, {"replicas", replicas}, {"batch", batch}};
  };
  // Ranks come, ranks leave, and nobody does.
  const PhaseSections phases{phase(2, 8), phase(4, 8), phase(4, 4), phase(3, 4)};
  const TrainResult run = train_phases(4, base, phases, {}, apart);
  TrainResult glued;
  for (std::int64_t epoch = 1; epoch <= 4; ++epoch) {
    glued = train_phases(4, with(base, {{"train.epochs", epoch}}), phases, glued.directory.string(), apart);
  }
  expect_same_bits(run.checkpoint, glued.checkpoint);
}

/// Takes its time, and fails where it is told to.
class SlowReader final : public Reader {
 public:
  explicit SlowReader(Section& section) {
    section.bind("seconds", seconds_, "per sample");
    section.bind("fails_at", fails_at_, "sample");
    section.bind("not_a_number", not_a_number_, "sample");
    section.bind("all_bad", all_bad_, "no sample is a number");
  }
  std::int64_t size() const override { return 48; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (static_cast<std::int64_t>(samples[i]) == fails_at_) fail(Code::data_loss, "this sample is bad");
      std::this_thread::sleep_for(std::chrono::duration<double>(seconds_));
      const bool bad = all_bad_ || static_cast<std::int64_t>(samples[i]) == not_a_number_;
      const auto x = bad ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(samples[i]) / 48.f;
      static_cast<float*>(buffers[0])[i] = x;
      static_cast<float*>(buffers[1])[i] = 2 * x + 1;
    }
  }

 private:
  double seconds_ = 0;
  std::int64_t fails_at_ = -1, not_a_number_ = -1;
  bool all_bad_ = false;
  std::vector<Field> fields_{{"x", DType::float32, {1}}, {"y", DType::float32, {1}}};
};
const Registered<ReaderType> slow_reader{"test_slow_line", {[](Section& s) { return std::make_unique<SlowReader>(s); }}};
const Registered<ModelType> line{"test_warmup_line", {[](Section&) -> ModelBuilder {
                                   return [](Graph&, const Batch& b) -> Model {
                                     return {.loss = mean_squared_error(nn::dense(b["x"], 1, "line"), b["y"])};
                                   };
                                 }}};

Options line_options(const TemporaryFolder& folder, const Options& changes = {}) {
  return with({{"train.directory", (folder.path() / "line").string()}, {"model.type", std::string("test_warmup_line")},
               {"data.train.reader", std::string("test_slow_line")}, {"data.batch", std::int64_t{4}}, {"data.shuffle", false},
               {"data.threads", std::int64_t{0}}, {"schedule.learning_rate", 0.1}, {"train.epochs", std::int64_t{2}},
               {"checkpoint.every_epochs", std::int64_t{0}}},
              changes);
}

TEST_F(Warmup, FollowersWaitAsLongAsRankZeroMakesSteps) {
  // Two seconds of training, and waits that may last one.
  const Options slow = line_options(folder_, {{"warmup.epochs", std::int64_t{1}}, {"data.train.seconds", testing::patient(0.04)}});
  EXPECT_EQ(train_phases(3, slow, {}, {}, {.timeout = testing::patient(1)}).steps, 12 + 4);
}

TEST_F(Warmup, ARankThatFailsInItEndsAllWithItsError) {
  for (const std::int64_t replicas : {1, 2}) {
    const Options bad = line_options(folder_, {{"warmup.epochs", std::int64_t{1}}, {"warmup.replicas", replicas},
                                                {"data.train.fails_at", std::int64_t{21}}});
    try {
      train_phases(3, bad, {});
      FAIL() << "it went on";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("this sample is bad"));
    }
  }
}

TEST_F(Warmup, AnyRankMayStopIt) {
  for (const int who : {0, 1, 2}) {
    SCOPED_TRACE(who);
    const Options slow = line_options(folder_, {{"warmup.epochs", std::int64_t{50}}, {"train.epochs", std::int64_t{60}},
                                                 {"data.train.seconds", 0.005}});
    std::array<TrainResult, 3> results;
    std::array<std::atomic<bool>, 3> stop{};
    std::jthread soon([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      stop[static_cast<std::size_t>(who)] = true;
    });
    run_as_threads(3, [&](Communicator& communicator) {
      const auto me = static_cast<std::size_t>(communicator.rank());
      const_cast<Context&>(communicator.context()).stop = &stop[me];     // as a signal would
      Section config = section_of(slow);
      results[me] = train(communicator, config);
    }, {.timeout = testing::kHung});
    for (const TrainResult& result : results) {
      EXPECT_TRUE(result.stopped);
      EXPECT_EQ(result.steps, results[0].steps);
      EXPECT_LT(result.steps, 50 * 12);
      EXPECT_EQ(result.checkpoint, results[0].checkpoint);
    }
    // It goes on where it was.
    const TrainResult more = train_with(3, with(slow, {{"train.max_steps", results[0].steps + 2}}), results[0].directory.string());
    EXPECT_EQ(more.steps, results[0].steps + 2);
  }
}

TEST_F(Warmup, EveryRankKnowsTheResultOfAPhaseThatItOnlyFollowed) {
  run_as_threads(3, [&](Communicator& communicator) {
    Section config = section_of(options({{"warmup.epochs", std::int64_t{9}}, {"train.epochs", std::int64_t{1}},
                                         {"data.validation.reader", std::string("synthetic")}, {"data.validation.samples", std::int64_t{10}},
                                         {"data.validation.shape", numbers({4, 4, 1})}}));
    const TrainResult result = train(communicator, config);
    EXPECT_EQ(result.steps, 12);
    ASSERT_TRUE(result.validation);
    EXPECT_EQ(result.validation->samples, 10);
    EXPECT_EQ(result.validation->metrics.size(), 1u);
    EXPECT_FALSE(result.checkpoint.empty());
  }, {.timeout = testing::kHung});
}

TEST_F(Warmup, PhasesThatMakeNoSenseAreRefused) {
  const auto error_of = [&](const Options& changes, const PhaseSections& phases) -> std::string {
    try {
      train_phases(1, options(changes), phases);
      return "nothing";
    } catch (const Error& error) {
      return error.what();
    }
  };
  EXPECT_THAT(error_of({}, {{{"batch", std::int64_t{4}}}, {{"batch", std::int64_t{8}}}}), HasSubstr("phase 1 of 2 needs a number of epochs"));
  EXPECT_THAT(error_of({}, {{{"epochs", std::int64_t{2}}}}), HasSubstr("end after 2 epochs, train.epochs is 5"));
  EXPECT_THAT(error_of({}, {{{"updater.type", std::string("local_sdg")}}}), HasSubstr("local_sgd"));
  EXPECT_THAT(error_of({}, {{{"epoch", std::int64_t{2}}}}), HasSubstr("did you mean 'epochs'"));
}

class LocalSgd : public Warmup {};

Options averaging(std::int64_t every) { return {{"train.updater", std::string("local_sgd")}, {"updater.average_every", every}}; }

TEST_F(LocalSgd, AveragedAfterEveryStepIsSynchronousSgd) {
  // 45 samples in batches of 24: ranks have unequal shares, in the last batch some have none.
  for (const std::int64_t samples : kBrief ? std::vector<std::int64_t>{45} : std::vector<std::int64_t>{96, 45, 25}) {
    const Options base = options({{"optimizer.type", std::string("sgd")}, {"schedule.learning_rate", 0.1}, {"data.train.samples", samples},
                                  {"data.global_batch", std::int64_t{24}}});
    for (const int ranks : {2, 3, 4}) {
      const TrainResult synchronous = train_with(ranks, base), local = train_with(ranks, with(base, averaging(1)));
      expect_close(synchronous.checkpoint, local.checkpoint, 2e-6);
      EXPECT_NEAR(synchronous.loss, local.loss, 1e-6);
    }
  }
}

/// y = w x + b by gradient descent on each of `ranks` shares, averaged every h steps and at the end of epochs.
std::array<double, 2> local_line(std::array<double, 2> start, int ranks, std::int64_t h, double rate, double momentum, int epochs) {
  std::vector<std::array<double, 2>> at(static_cast<std::size_t>(ranks), start), speed(static_cast<std::size_t>(ranks), {0, 0});
  const auto average = [&](std::vector<std::array<double, 2>>& all) {
    std::array<double, 2> mean{};
    for (const auto& one : all) for (std::size_t i = 0; i < 2; ++i) mean[i] += one[i] / ranks;
    std::ranges::fill(all, mean);
  };
  const int global = 4 * ranks;
  std::int64_t step = 0;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    for (int first = 0; first < 48; first += global) {
      for (std::size_t r = 0; r < at.size(); ++r) {
        std::array<double, 2> gradient{};
        for (int row = static_cast<int>(r); row < global; row += ranks) {
          const double x = (first + row) / 48.0, error = at[r][0] * x + at[r][1] - (2 * x + 1);
          gradient[0] += 2 * error * x / 4;
          gradient[1] += 2 * error / 4;
        }
        for (std::size_t i = 0; i < 2; ++i) {
          speed[r][i] = momentum * speed[r][i] + gradient[i];
          at[r][i] -= rate * speed[r][i];
        }
      }
      if (++step % h == 0 || first + global >= 48) {
        average(at);
        average(speed);
      }
    }
  }
  return at[0];
}

TEST_F(LocalSgd, IsWhatTheFormulaSays) {
  for (const int ranks : {2, 3}) {
    for (const std::int64_t every : {4, 64}) {
      const Options base = with(line_options(folder_, averaging(every)), {{"optimizer.type", std::string("sgd")}, {"optimizer.momentum", 0.5},
                                                                          {"train.epochs", std::int64_t{3}}, {"train.check_replicas", true}});
      const auto start = tensors_of(train_with(1, with(base, {{"schedule.learning_rate", 0.0}, {"train.epochs", std::int64_t{1}}})).checkpoint);
      const auto trained = tensors_of(train_with(ranks, base).checkpoint);
      const auto expected = local_line({start.at("/parameters/line/weight")[0], start.at("/parameters/line/bias")[0]}, ranks, every, 0.1, 0.5, 3);
      EXPECT_NEAR(trained.at("/parameters/line/weight")[0], expected[0], 1e-5) << ranks << " ranks, H = " << every;
      EXPECT_NEAR(trained.at("/parameters/line/bias")[0], expected[1], 1e-5) << ranks << " ranks, H = " << every;
    }
  }
}

TEST_F(LocalSgd, ARankDoesWithoutAnUpdateThatIsNotFinite) {
  const auto options_of = [&](const Options& changes) {
    return with(with(line_options(folder_, averaging(4)), {{"train.check_replicas", true}, {"train.epochs", std::int64_t{3}}}), changes);
  };
  // Four steps an epoch and one average: it reports what one rank of three did without.
  const TrainResult run = train_with(3, options_of({{"data.train.not_a_number", std::int64_t{21}}}));
  EXPECT_EQ(run.steps, 12);
  EXPECT_EQ(run.skipped, 3);
  const auto clean = tensors_of(train_with(3, options_of({})).checkpoint);
  for (const auto& [name, values] : tensors_of(run.checkpoint)) {
    EXPECT_TRUE(std::isfinite(values[0])) << name;
    EXPECT_NE(values, clean.at(name));
  }
  try {
    train_with(2, options_of({{"data.train.all_bad", true}, {"train.epochs", std::int64_t{20}}, {"train.max_skipped", std::int64_t{4}}}));
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("not finite in 4 steps in a row"));
  }
}

TEST_F(LocalSgd, WorksWithEveryOptimizerAndAccumulation) {
  for (const std::string& name : Registry<OptimizerType>::instance().names()) {
    if (kBrief && name != "sgd" && name != "lamb") continue;
    const Options base = with(options({{"optimizer.type", name}, {"train.accumulate", std::int64_t{2}}, {"train.clip_norm", 0.5}}), averaging(3));
    const TrainResult run = train_with(3, base);
    EXPECT_TRUE(std::isfinite(run.loss)) << name;
    expect_same_bits(run.checkpoint, train_with(3, base).checkpoint);
  }
}

}  // namespace
}  // namespace cohort
