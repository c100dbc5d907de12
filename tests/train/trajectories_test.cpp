// 20 losses of every model with three optimizers, from start weights and batches that both sides draw from the same
// generator, against PyTorch's in float64: trajectories.h5, written by make_trajectories.py, which describes all of it.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>

#include "cohort/base/random.hpp"
#include "cohort/comm/control.hpp"
#include "run/replica_sums.hpp"
#include "run/setup.hpp"
#include "support/patience.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::numbers;
using testing::Options;

constexpr std::uint64_t kSeed = 1;
constexpr std::int64_t kSteps = 20, kBatches = 4;

float signed_noise(std::string_view name, std::int64_t i) {
  return 2 * random_uniform(kSeed, stream_of(name), static_cast<std::uint64_t>(i)) - 1;
}
std::int32_t below(std::uint64_t bound, std::string_view name, std::int64_t i) {
  return static_cast<std::int32_t>(random_below(bound, kSeed, stream_of(name), static_cast<std::uint64_t>(i)));
}

/// Images with labels, or sequences of symbols with what follows from them.
class NoiseReader final : public Reader {
 public:
  explicit NoiseReader(Section& section) {
    section.bind("samples", samples_, "in the set");
    section.bind("shape", shape_, "of an image, or positions of a sequence");
    const Shape shape(shape_);
    elements_ = shape.elements();
    if (is_text()) fields_ = {{"input", DType::int32, shape}, {"target", DType::int32, shape}};
    else fields_ = {{"image", DType::float32, shape}, {"label", DType::int32, {}}};
  }
  std::int64_t size() const override { return samples_; }
  const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    for (std::size_t row = 0; row < samples.size(); ++row) {
      const std::int64_t at = static_cast<std::int64_t>(row) * elements_, first = samples[row] * elements_;
      if (is_text()) {
        read_text(first, static_cast<std::int32_t*>(buffers[0]) + at, static_cast<std::int32_t*>(buffers[1]) + at);
      } else {
        auto* image = static_cast<float*>(buffers[0]) + at;
        for (std::int64_t i = 0; i < elements_; ++i) image[i] = signed_noise("image", first + i);
        static_cast<std::int32_t*>(buffers[1])[row] = below(10, "label", samples[row]);
      }
    }
  }

 private:
  [[nodiscard]] bool is_text() const { return shape_.size() == 1; }
  void read_text(std::int64_t first, std::int32_t* input, std::int32_t* target) const {
    for (std::int64_t i = 0; i < elements_; ++i) {
      input[i] = below(11, "input", first + i);
      target[i] = (3 * input[i] + (i > 0 ? input[i - 1] : 0)) % 11;
    }
  }

  std::int64_t samples_ = 0, elements_ = 0;
  std::vector<std::int64_t> shape_;
  std::vector<Field> fields_;
};

const Registered<ReaderType> reader{"noise",
                                    {.open = [](Section& section) { return std::make_unique<NoiseReader>(section); }}};

struct ModelCase {
  std::string name;
  std::int64_t samples;
  std::vector<std::int64_t> shape;
  Options options;
  double rate = 1;              // factor of the optimizer's

  friend void PrintTo(const ModelCase& model, std::ostream* out) { *out << model.name; }
};

Options resnet(std::int64_t depth, std::int64_t width, const std::string& norm) {
  return {{"model.type", std::string("resnet")}, {"model.depth", depth}, {"model.width", width}, {"model.norm", norm},
          {"model.groups", std::int64_t{2}}, {"model.over_ranks", norm == "batch"}};
}

const std::vector<ModelCase>& models() {
  const auto text = [](const char* value) { return std::string(value); };
  const auto n = [](std::int64_t value) { return value; };
  static const std::vector<ModelCase> all = {
      {"mlp", 7, {6, 5, 1},
       {{"model.type", text("mlp")}, {"model.hidden", numbers({24, 17})}, {"model.label_smoothing", 0.1}}},
      {"lenet", 6, {16, 16, 1},
       {{"model.type", text("lenet")}, {"model.filters", numbers({4, 6})}, {"model.hidden", numbers({20, 12})}}},
      {"resnet", 6, {8, 8, 3}, resnet(8, 4, "batch")},
      {"resnet_group", 5, {9, 7, 3}, resnet(14, 4, "group")},
      {"resnet_none", 5, {8, 8, 3}, resnet(8, 4, "none")},
      {"resnet_large", 8, {64, 64, 3}, resnet(18, 2, "group"), 0.1},
      {"gpt", 4, {9},
       {{"model.type", text("gpt")}, {"model.layers", n(2)}, {"model.width", n(12)}, {"model.heads", n(3)},
        {"model.symbols", n(11)}}},
      {"lstm", 5, {7},
       {{"model.type", text("lstm")}, {"model.layers", n(2)}, {"model.units", n(10)}, {"model.width", n(6)},
        {"model.symbols", n(11)}},
       4},
  };
  return all;
}

struct OptimizerCase {
  std::string name;
  double rate;
  Options options;
};
const std::array<OptimizerCase, 3> kOptimizers = {
    {{"sgd", 0.05, {{"optimizer.momentum", 0.9}, {"optimizer.weight_decay", 0.01}}},
     {"adam", 0.01, {}},
     {"lamb", 0.02, {}}}};        // by default with a weight decay of 0.01

Tensor start_of(const Parameter& parameter) {
  const Shape& shape = parameter.shape;
  const bool scale = parameter.name.ends_with("/scale");
  const double bound = std::sqrt(3.0 * static_cast<double>(shape[-1]) / static_cast<double>(shape.elements()));
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double noise = signed_noise(parameter.name, static_cast<std::int64_t>(i));
    values[i] = static_cast<float>(shape.rank() > 1 ? bound * noise : 0.2 * noise + (scale ? 1 : 0));
  }
  return Tensor::of(shape, values);
}

/// The losses as the ranks sum them up, step by step.
std::vector<double> losses_of(Communicator& communicator, const ModelCase& model, const OptimizerCase& optimizer) {
  Section config = testing::section_of(testing::with(
      testing::with(model.options, optimizer.options),
      {{"data.train.reader", std::string("noise")}, {"data.train.samples", kBatches * model.samples},
       {"data.train.shape", numbers(model.shape)}, {"data.shuffle", false}, {"data.threads", std::int64_t{0}},
       {"data.global_batch", model.samples}, {"optimizer.type", optimizer.name}, {"train.threads", std::int64_t{1}},
       {"exchange.first_bucket_mib", 0.002}}));
  Setup setup(communicator, config);
  setup.place_parameters();
  const std::unique_ptr<Updater> updater =
      setup.make_updater(communicator, *setup.parameters, *setup.optimizer, setup.replica->session(), setup.updater);
  BatchPipeline data(setup.training_data, setup.pipeline, communicator.rank(), communicator.size());
  setup.replica->bind_gradients(setup.parameters->layout(), *updater, setup.pipeline.batch);
  ReplicaSums sums(communicator);
  setup.replica->bind_sum_over_replicas([&](std::span<float> values) { sums.sum(values); });
  for (std::size_t p = 0; p < setup.parameters->layout().trained().size(); ++p) {
    if (!setup.group || setup.group->leads()) setup.parameters->value(p).copy_from(start_of(setup.parameters->layout().trained()[p]));
  }
  barrier(communicator);
  std::vector<double> losses;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const SampleBatch& batch = *data.next();
    const double rate = model.rate * optimizer.rate;
    const double weight = static_cast<double>(batch.samples) / static_cast<double>(model.samples);
    const StepInfo info{.step = step, .applied = step, .learning_rate = rate, .previous_learning_rate = rate};
    updater->begin(info);
    sums.begin(step);
    const BatchResult& result = setup.replica->train(batch, weight, {.step = step});
    const StepOutcome outcome = updater->finish(info, {.loss = static_cast<float>(weight * result.loss)});
    if (!outcome.applied) fail(Code::internal, "a gradient is not finite");
    losses.push_back(outcome.scalars.loss);
  }
  return losses;
}

class Trajectories : public ::testing::TestWithParam<ModelCase> {
 protected:
  static std::vector<double> expected(const std::string& model, const std::string& optimizer) {
    static const auto file = hdf5::File::open(COHORT_TRAJECTORIES);
    std::vector<double> losses(kSteps);
    file.read(model + "/" + optimizer + "/losses", DType::float64, {kSteps}, losses.data());
    return losses;
  }
};

/// Alone, and with three ranks that share every batch and, where they can, the parameters.
TEST_P(Trajectories, AreThoseOfPyTorch) {
  for (const OptimizerCase& optimizer : kOptimizers) {
    const std::vector<double> want = expected(GetParam().name, optimizer.name);
    for (const int ranks : {1, 3}) {
      std::vector<double> losses;
      run_as_threads(ranks, [&](Communicator& communicator) {
        const std::vector<double> mine = losses_of(communicator, GetParam(), optimizer);
        if (communicator.rank() == 0) losses = mine;
      }, {.timeout = testing::kHung});
      double most = 0;
      for (std::size_t step = 0; step < kSteps; ++step) {   // rounding errors grow with every update
        const double error = std::fabs(losses[step] - want[step]) / want[step];
        const double allowed = 1e-4 * std::pow(10.0, static_cast<double>(step) / (kSteps - 1));
        EXPECT_LE(error, allowed) << optimizer.name << " on " << ranks << " ranks, step " << step + 1 << ": " << losses[step]
                                  << " is not " << want[step];
        most = std::max(most, error / allowed);
      }
      std::printf("%-5s %d ranks: at most %.3f of the tolerance\n", optimizer.name.c_str(), ranks, most);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Trajectories, ::testing::ValuesIn(models()),
                         [](const auto& suite) { return suite.param.name; });

}  // namespace
}  // namespace cohort
