#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cohort/base/random.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;
using Given = std::vector<std::pair<std::string, OptionValue>>;

/// A model built for training and for evaluation on one graph, with 28 × 28 images as inputs.
struct Built {
  explicit Built(const std::string& name, const Given& given = {}) {
    Section section("model");
    for (const auto& [key, value] : given) section.set(key, value);
    const ModelBuilder build = Registry<ModelType>::instance().get(name).make(section);
    section.finish();
    image = graph.placeholder("image", DType::float32, {Shape::kUnknown, 28, 28, 1});
    label = graph.placeholder("label", DType::int32, {Shape::kUnknown});
    training = build(graph, {.fields = {{"image", image}, {"label", label}}, .training = true});
    for (const Value& v : graph.variables(true)) parameters += v.shape().elements();
    variables = graph.variables().size();
    evaluation = build(graph, {.fields = {{"image", image}, {"label", label}}, .training = false});
  }

  /// Four classes that differ in which quarter of the image is bright.
  [[nodiscard]] Feeds feeds(std::int64_t n) const {
    const Tensor images = Tensor::zeros({n, 28, 28, 1}), labels = Tensor::zeros({n}, DType::int32);
    for (std::int64_t i = 0; i < n; ++i) {
      labels.data<std::int32_t>()[i] = static_cast<std::int32_t>(i % 4);
      for (std::int64_t p = 0; p < 784; ++p) {
        const bool bright = (p / 28 < 14) == (i % 2 == 0) && (p % 28 < 14) == (i % 4 < 2);
        images.data<float>()[i * 784 + p] =
            (bright ? 1.f : 0.f) + 0.1f * random_uniform(1, 2, static_cast<std::uint64_t>(i * 784 + p));
      }
    }
    return {{image, images}, {label, labels}};
  }

  Graph graph;
  Value image, label;
  Model training, evaluation;
  std::int64_t parameters = 0;
  std::size_t variables = 0;
};

TEST(Models, HaveTheirPublishedNumberOfParameters) {
  EXPECT_EQ(Built("lenet").parameters, 61706);
  EXPECT_EQ(Built("cnn").parameters, 1663370);
  EXPECT_EQ(Built("mlp").parameters, 784 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 10 + 10);
  // He et al.'s net of 20 layers has 269,722 for three channels; here are one channel, and projections in two shortcuts.
  EXPECT_EQ(Built("resnet").parameters, 269722 - 2 * 9 * 16 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64));
  // The net of 18 layers with a 3 × 3 stem, as it is used for CIFAR-10, has 11,173,962 for three channels.
  EXPECT_EQ(Built("resnet", {{"depth", {std::int64_t{18}, "test"}}}).parameters, 11173962 - 2 * 9 * 64);
}

TEST(Models, OptionsChangeTheirSizes) {
  const auto list = [](std::vector<std::int64_t> numbers) {
    OptionList values;
    for (const std::int64_t n : numbers) values.push_back({n, "test"});
    return OptionValue{values, "test"};
  };
  EXPECT_EQ(Built("mlp", {{"hidden", list({3})}, {"classes", {std::int64_t{4}, "test"}}}).parameters,
            784 * 3 + 3 + 3 * 4 + 4);
  EXPECT_EQ(Built("cnn", {{"filters", list({2})}, {"hidden", {std::int64_t{5}, "test"}}}).parameters,
            25 * 2 + 2 + 14 * 14 * 2 * 5 + 5 + 5 * 10 + 10);
  EXPECT_EQ(Built("cnn", {{"filters", list({2})}, {"batch_norm", {true, "test"}}}).variables, 9u);   // no bias before it
  EXPECT_THROW(Built("resnet", {{"depth", {std::int64_t{19}, "test"}}}), Error);
  EXPECT_THROW(Built("lenet", {{"filters", list({6})}}), Error);
  EXPECT_THROW(Built("mlp", {{"dropout", {1.5, "test"}}}), Error);
}

Given small(const std::string& name) {
  if (name != "resnet") return {{"dropout", {0.1, "test"}}};
  return {{"depth", {std::int64_t{8}, "test"}}, {"width", {std::int64_t{8}, "test"}}, {"norm", {std::string("group"), "test"}}};
}

class EachModel : public ::testing::TestWithParam<std::string> {};

TEST_P(EachModel, LearnsFourClassesAndEvaluatesOnTheSameParameters) {
  Built m(GetParam(), small(GetParam()));
  const float rate = GetParam() == "resnet" ? 0.2f : 0.03f;
  EXPECT_EQ(m.graph.variables().size(), m.variables) << "building for evaluation must not add variables";
  const std::vector<Value> parameters = m.graph.variables(true);
  std::vector<Value> fetches = gradients(m.training.loss, parameters);
  fetches.push_back(m.training.loss);
  Session session(m.graph);
  const Feeds feeds = m.feeds(16);
  const auto evaluate = [&] { return session.run(m.evaluation.loss, feeds).data<float>()[0]; };
  EXPECT_NEAR(evaluate(), std::log(10), 1.5);                // untrained: nearly uniform over ten classes
  for (std::int64_t step = 0; step < 25; ++step) {           // plain gradient descent
    const auto results = session.run(fetches, feeds, {.seed = 1, .step = step});
    ASSERT_TRUE(std::isfinite(results.back().data<float>()[0])) << "step " << step;
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const Tensor& w = session.variable(parameters[p]);
      for (std::int64_t i = 0; i < w.elements(); ++i) w.data<float>()[i] -= rate * results[p].data<float>()[i];
    }
  }
  EXPECT_LT(evaluate(), 0.5);
  ASSERT_EQ(m.evaluation.metrics.size(), 1u);
  EXPECT_EQ(m.evaluation.metrics[0].first, "accuracy");
  EXPECT_GT(session.run(m.evaluation.metrics[0].second, feeds).data<float>()[0], 0.9f);
  EXPECT_EQ(session.run(m.evaluation.output, feeds).shape(), (Shape{16, 10}));
}

INSTANTIATE_TEST_SUITE_P(Images, EachModel, ::testing::Values("cnn", "lenet", "mlp", "resnet"),
                         [](const auto& suite) { return suite.param; });

TEST(Models, AnAutoencoderLearnsToRebuildItsImages) {
  for (const bool dense : {false, true}) {
    SCOPED_TRACE(dense ? "dense" : "convolutions");
    Given given{{"code", {std::int64_t{4}, "test"}}};
    if (dense) given.push_back({"hidden", {OptionList{{std::int64_t{20}, "test"}}, "test"}});
    if (dense) given.push_back({"filters", {OptionList{}, "test"}});
    Built m("autoencoder", given);
    EXPECT_EQ(m.graph.variables().size(), m.variables);
    const std::vector<Value> parameters = m.graph.variables(true);
    std::vector<Value> fetches = gradients(m.training.loss, parameters);
    Session session(m.graph);
    const Feeds feeds = m.feeds(16);
    const auto evaluate = [&] { return session.run(m.evaluation.loss, feeds).data<float>()[0]; };
    const float before = evaluate();
    for (int step = 0; step < 60; ++step) {
      const auto results = session.run(fetches, feeds);
      for (std::size_t p = 0; p < parameters.size(); ++p) {
        const Tensor& w = session.variable(parameters[p]);
        for (std::int64_t i = 0; i < w.elements(); ++i) w.data<float>()[i] -= (dense ? 4.f : 0.3f) * results[p].data<float>()[i];
      }
    }
    EXPECT_LT(evaluate(), 0.5f * before);
    EXPECT_EQ(session.run(m.evaluation.output, feeds).shape(), (Shape{16, 28, 28, 1}));
  }
}

TEST(Models, ABatchWithoutTheFieldNamesThoseThatThereAre) {
  Graph g;
  const Batch batch{.fields = {{"text", g.placeholder("text", DType::int32, {1})}}};
  try {
    (void)batch["image"];
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("unknown field of the batch 'image'. Known: text"));
  }
}

std::string error_with(const std::string& model, const std::vector<std::pair<std::string, Signature>>& fields) {
  Graph graph;
  Batch batch;
  for (const auto& [name, field] : fields) batch.fields.emplace(name, graph.placeholder(name, field.dtype, field.shape));
  Section section("model");
  try {
    (void)Registry<ModelType>::instance().get(model).make(section)(graph, batch);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// What a field is called does not matter where only one can be meant.
TEST(Models, TakeAnyFieldOfTheRightFormAndSayWhichTheyLookFor) {
  const auto unknown = Shape::kUnknown;
  const Signature image{DType::float32, {unknown, 12, 12, 1}}, vector{DType::float32, {unknown, 7}}, label{DType::int32, {unknown}},
      text{DType::int32, {unknown, 9}};
  for (const std::string model : {"mlp", "lenet", "cnn", "resnet", "autoencoder"}) {
    SCOPED_TRACE(model);
    EXPECT_EQ(error_with(model, {{"image", image}, {"label", label}}), "");
    EXPECT_EQ(error_with(model, {{"x", image}, {"y", label}}), "");
    EXPECT_EQ(error_with(model, {{"image", image}, {"other", image}, {"label", label}, {"weight", label}}), "");
    EXPECT_THAT(error_with(model, {{"a", image}, {"b", image}, {"label", label}}),
                ::testing::AllOf(HasSubstr("model " + model + " takes the field 'image', float32 [n, "),
                                 HasSubstr(", or else the only field of that form; the data have 'a' float32[?, 12, 12, 1], 'b' float32")));
    EXPECT_THAT(error_with(model, {{"image", label}, {"x", image}, {"label", label}}),
                HasSubstr("model " + model + " takes the field 'image', float32 [n, "));
    if (model == "autoencoder") continue;
    EXPECT_THAT(error_with(model, {{"x", image}, {"y", Signature{DType::int64, {unknown}}}}),
                HasSubstr("a classifier takes the field 'label', int32 [n], or else the only field of that form; the data have "
                          "'x' float32[?, 12, 12, 1], 'y' int64[?]"));
  }
  EXPECT_EQ(error_with("mlp", {{"features", vector}, {"label", label}}), "");
  EXPECT_THAT(error_with("cnn", {{"image", vector}, {"label", label}}),
              HasSubstr("takes the field 'image', float32 [n, height, width, channels]; the data have 'image' float32[?, 7], "
                        "'label' int32[?]. A reader's options name, convert and shape its fields"));
  for (const std::string model : {"gpt", "lstm"}) {
    EXPECT_EQ(error_with(model, {{"input", text}, {"target", text}}), "");
    EXPECT_THAT(error_with(model, {{"text", text}, {"target", text}}),
                HasSubstr("model " + model + " takes the field 'input', int32 [n, t], or else"));
  }
}

}  // namespace
}  // namespace cohort
