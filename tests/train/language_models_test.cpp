#include <gtest/gtest.h>

#include <cmath>

#include "cohort/base/random.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

using Given = std::vector<std::pair<std::string, OptionValue>>;

OptionValue number(std::int64_t n) { return {n, "test"}; }

/// A sequence model built for training and for evaluation on one graph.
struct Built {
  Built(const std::string& name, std::int64_t positions, const Given& given) {
    Section section("model");
    for (const auto& [key, value] : given) section.set(key, value);
    const ModelBuilder build = Registry<ModelType>::instance().get(name).make(section);
    section.finish();
    input = graph.placeholder("input", DType::int32, {Shape::kUnknown, positions});
    target = graph.placeholder("target", DType::int32, {Shape::kUnknown, positions});
    training = build(graph, {.fields = {{"input", input}, {"target", target}}, .training = true});
    for (const Value& v : graph.variables(true)) parameters += v.shape().elements();
    variables = graph.variables().size();
    evaluation = build(graph, {.fields = {{"input", input}, {"target", target}}, .training = false});
  }

  Graph graph;
  Value input, target;
  Model training, evaluation;
  std::int64_t parameters = 0;
  std::size_t variables = 0;
};

const std::map<std::string, Given> kSmall = {
    {"gpt", {{"layers", number(2)}, {"width", number(16)}, {"heads", number(2)}, {"symbols", number(8)}, {"dropout", {0.05, "test"}}}},
    {"lstm", {{"units", number(24)}, {"width", number(8)}, {"symbols", number(8)}, {"dropout", {0.05, "test"}}}},
};

TEST(LanguageModels, HaveTheirNumberOfParameters) {
  EXPECT_EQ(Built("gpt", 128, {}).parameters, 875264);   // that of the same net in PyTorch
  EXPECT_EQ(Built("lstm", 128, {{"layers", number(2)}, {"units", number(20)}, {"width", number(6)}}).parameters,
            256 * 6 + (6 + 20 + 1) * 80 + (20 + 20 + 1) * 80 + 20 * 256 + 256);
}

class EachLanguageModel : public ::testing::TestWithParam<std::string> {};

/// The successor is the symbol before: it must be remembered over one step.
TEST_P(EachLanguageModel, LearnsToRememberAndLooksBackOnly) {
  constexpr std::int64_t kSamples = 16, kPositions = 12;
  Built m(GetParam(), kPositions, kSmall.at(GetParam()));
  EXPECT_EQ(m.graph.variables().size(), m.variables) << "building for evaluation must not add variables";
  const Tensor input = Tensor::zeros({kSamples, kPositions}, DType::int32), target = Tensor::zeros({kSamples, kPositions}, DType::int32);
  for (std::int64_t i = 0; i < kSamples; ++i) {
    auto a = static_cast<std::int32_t>(i % 7), b = static_cast<std::int32_t>((i / 7 + 2 * i) % 7);
    for (std::int64_t t = 0; t < kPositions; ++t) {
      input.data<std::int32_t>()[i * kPositions + t] = a;
      target.data<std::int32_t>()[i * kPositions + t] = b;
      std::swap(a, b);
    }
  }
  const Feeds feeds{{m.input, input}, {m.target, target}};
  const std::vector<Value> parameters = m.graph.variables(true);
  std::vector<Value> fetches = gradients(m.training.loss, parameters);
  fetches.push_back(m.training.loss);
  Session session(m.graph);
  const auto evaluate = [&] { return session.run(m.evaluation.loss, feeds).data<float>()[0]; };
  EXPECT_NEAR(evaluate(), std::log(8), 0.9);             // untrained: nearly uniform
  std::vector<std::vector<float>> momentum(parameters.size());
  for (std::int64_t step = 0; step < 250; ++step) {
    const auto results = session.run(fetches, feeds, {.seed = 1, .step = step});
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const Tensor& w = session.variable(parameters[p]);
      momentum[p].resize(static_cast<std::size_t>(w.elements()));
      for (std::int64_t i = 0; i < w.elements(); ++i) {
        float& v = momentum[p][static_cast<std::size_t>(i)];
        v = 0.9f * v + results[p].data<float>()[i];
        w.data<float>()[i] -= 0.1f * v;
      }
    }
  }
  // The first symbol's successor cannot be known, the rest can.
  EXPECT_LT(evaluate(), 0.5);
  EXPECT_EQ(session.run(m.evaluation.output, feeds).shape(), (Shape{kSamples, kPositions, 8}));

  const auto before = session.run(m.evaluation.output, feeds).to_vector<float>();
  for (std::int64_t i = 0; i < kSamples; ++i) input.data<std::int32_t>()[i * kPositions + 7] ^= 1;
  const auto after = session.run(m.evaluation.output, feeds).to_vector<float>();
  for (std::int64_t t = 0; t < kPositions; ++t) {
    bool same = true;
    for (std::size_t k = 0; k < 8; ++k) same = same && before[static_cast<std::size_t>(t) * 8 + k] == after[static_cast<std::size_t>(t) * 8 + k];
    EXPECT_EQ(same, t < 7) << "position " << t << " after a change at position 7";
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EachLanguageModel, ::testing::Values("gpt", "lstm"), [](const auto& suite) { return suite.param; });

TEST(LanguageModels, RefuseHeadsThatDoNotDivideTheWidth) {
  EXPECT_THROW(Built("gpt", 8, {{"width", number(10)}, {"heads", number(3)}}), Error);
}

}  // namespace
}  // namespace cohort
