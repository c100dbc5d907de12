#include "cohort/train/generate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "cohort/exec/session.hpp"
#include "cohort/graph/model.hpp"
#include "support/patience.hpp"
#include "support/training.hpp"

namespace cohort::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A small model trained for a moment on a text of one sentence again and again.
class Generate : public ::testing::TestWithParam<std::string> {
 protected:
  Generate() {
    std::string text;
    for (int i = 0; i < 100; ++i) text += "the quick brown fox jumps over the lazy dog. ";
    std::ofstream(folder_.file("text")) << text;
    options_ = {{"train.directory", folder_.file("run")}, {"train.max_steps", std::int64_t{60}}, {"train.epochs", std::int64_t{9}},
                {"model.type", GetParam()}, {"model.width", std::int64_t{24}}, {"data.train.reader", std::string("text")},
                {"data.train.files", OptionList{{folder_.file("text"), "test"}}}, {"data.train.context", std::int64_t{kContext}},
                {"data.train.stride", std::int64_t{5}}, {"data.batch", std::int64_t{16}}, {"optimizer.type", std::string("adam")},
                {"schedule.learning_rate", 0.01}};
    if (GetParam() == "gpt") options_["model.layers"] = std::int64_t{2};
    else options_["model.units"] = std::int64_t{48};
    train_with(1, options_);
  }

  std::string text(Options more, int ranks = 1) {
    more.insert(options_.begin(), options_.end());
    std::string result;
    run_as_threads(ranks, [&](Communicator& communicator) {
      Section config = section_of(more);
      std::string shown;
      const std::string mine = generate(communicator, config, folder_.file("run"), [&](std::string_view piece) { shown += piece; });
      EXPECT_EQ(shown, mine);
      if (communicator.rank() == 0) result = mine;
      else EXPECT_EQ(mine, "");
    }, {.timeout = testing::kHung});
    return result;
  }

  static constexpr std::int64_t kContext = 24;
  TemporaryFolder folder_;
  Options options_;
};

TEST_P(Generate, TheSameSeedIsTheSameTextAndAnotherSeedAnother) {
  const Options seven{{"generate.prompt", std::string("the ")}, {"generate.length", std::int64_t{60}}, {"generate.seed", std::int64_t{7}},
                      {"generate.temperature", 1.5}};
  Options eight = seven;
  eight["generate.seed"] = std::int64_t{8};
  const std::string first = text(seven);
  EXPECT_THAT(first, StartsWith("the "));
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(text(seven), first);
  EXPECT_EQ(text(seven, 2), first) << "with two ranks";
  EXPECT_NE(text(eight), first);
}

/// The model built by hand, with the checkpoint's values read without the code that loads checkpoints.
TEST_P(Generate, TemperatureZeroTakesTheLargestLogit) {
  const std::string prompt = "jumps";
  constexpr std::int64_t kLength = 40;                 // goes beyond the context
  const std::string given = text({{"generate.prompt", prompt}, {"generate.length", kLength}, {"generate.temperature", 0.0}});
  Graph graph;
  const Value input = graph.placeholder("input", DType::int32, {Shape::kUnknown, kContext});
  const Value target = graph.placeholder("target", DType::int32, {Shape::kUnknown, kContext});
  Section config = section_of(options_);
  Section& section = config.child("model");
  std::string type;
  section.bind("type", type, "");
  const Model model = Registry<ModelType>::instance().get(type).make(section)(graph, {.fields = {{"input", input}, {"target", target}}, .training = false});
  Session session(graph);
  const auto values = tensors_of(folder_.file("run/checkpoints/latest"));
  for (const Value& variable : graph.variables()) {
    const std::string name = graph.node(variable.node).name;
    session.variable(variable).copy_from(Tensor::of(variable.shape(), values.at("/parameters/" + name)));
  }
  std::string want = prompt;
  for (std::int64_t k = 0; k < kLength; ++k) {
    const std::int64_t begin = std::max<std::int64_t>(0, std::ssize(want) - kContext), length = std::ssize(want) - begin;
    const Tensor window = Tensor::zeros({1, kContext}, DType::int32);
    for (std::int64_t i = 0; i < length; ++i) window.data<std::int32_t>()[i] = want[static_cast<std::size_t>(begin + i)];
    const auto logits = session.run(model.output, {{input, window}}).to_vector<float>();
    const auto row = logits.begin() + (length - 1) * 256;
    want += static_cast<char>(std::max_element(row, row + 256) - row);
  }
  EXPECT_EQ(given, want);
}

TEST_P(Generate, RefusesAPromptThatDoesNotFit) {
  EXPECT_THROW(text({{"generate.prompt", std::string()}}), Error);
  EXPECT_THROW(text({{"generate.temperature", -1.0}}), Error);
}

INSTANTIATE_TEST_SUITE_P(Models, Generate, ::testing::Values("gpt", "lstm"), [](const auto& suite) { return suite.param; });

TEST(GenerateErrors, AnImageModelWritesNoText) {
  const TemporaryFolder folder;
  const Options options{{"train.directory", folder.file("run")}, {"train.max_steps", std::int64_t{1}}, {"data.train.reader", std::string("synthetic")},
                        {"data.train.samples", std::int64_t{64}}, {"model.hidden", OptionList{{std::int64_t{4}, "test"}}}};
  train_with(1, options);
  std::string message;
  run_as_threads(1, [&](Communicator& communicator) {
    Section config = section_of(options);
    try {
      static_cast<void>(generate(communicator, config, folder.file("run")));
    } catch (const Error& error) {
      message = error.what();
    }
  }, {.timeout = testing::kHung});
  EXPECT_THAT(message, HasSubstr("generate needs a model of sequences"));
}

TEST(ChooseSymbol, FollowsTheProbabilities) {
  const std::array<float, 4> logits{0.f, std::log(4.f), std::log(2.f), std::log(1.f)};   // 1/8, 4/8, 2/8, 1/8
  std::array<int, 4> counts{}, sharp{}, two{};
  for (int i = 0; i < 800; ++i) {
    const double u = (i + 0.5) / 800;
    ++counts[choose_symbol(logits, 1, 0, u)];
    ++sharp[choose_symbol(logits, 0.5, 0, u)];                                           // 1, 16, 4, 1 of 22
    ++two[choose_symbol(logits, 1, 2, u)];                                               // 4/6, 2/6
  }
  EXPECT_THAT(counts, ::testing::ElementsAre(100, 400, 200, 100));
  EXPECT_NEAR(sharp[1], 800. * 16 / 22, 1.5);
  EXPECT_THAT(two, ::testing::ElementsAre(0, ::testing::AnyOf(533, 534), ::testing::AnyOf(266, 267), 0));
  EXPECT_EQ(choose_symbol(logits, 0, 0, 0.99), 1u);
  EXPECT_EQ(choose_symbol(std::array{5.f, 5.f}, 0, 0, 0.99), 0u);
  for (const double temperature : {0.0, 1.0}) {
    EXPECT_THROW((void)choose_symbol(std::array{5.f, std::nanf("")}, temperature, 0, 0.5), Error);
  }
}

}  // namespace
}  // namespace cohort::testing
