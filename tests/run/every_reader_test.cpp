// Every reader trains a model of the box, and what it has trained is evaluated where the training data are gone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>

#include "cohort/data/reader.hpp"
#include "cohort/train/generate.hpp"
#include "data/image_files.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int kSamples = 8;

/// An IDX file of unsigned bytes.
std::string idx(const std::vector<unsigned char>& dims, std::size_t elements) {
  std::string bytes{'\0', '\0', '\x08', static_cast<char>(dims.size())};
  for (const unsigned char dim : dims) bytes += std::string{'\0', '\0', '\0', static_cast<char>(dim)};
  for (std::size_t i = 0; i < elements; ++i) bytes += static_cast<char>(i % 7);
  return bytes;
}

/// How to write a set into a folder, and the keys of its section; what must be said of the model. A new reader comes here.
struct Maker {
  Options model;
  std::function<Options(const fs::path&)> set;
};
const std::map<std::string, Maker> kMakers = {
    {"idx",
     {{{"model.type", std::string("lenet")}},
      [](const fs::path& folder) -> Options {
        write_bytes(folder / "images", idx({kSamples, 12, 12}, kSamples * 144));
        write_bytes(folder / "labels", idx({kSamples}, kSamples));
        return {{"images", (folder / "images").string()}, {"labels", (folder / "labels").string()}};
      }}},
    {"hdf5",
     {{{"model.type", std::string("mlp")}},
      [](const fs::path& folder) -> Options {
        const std::vector<float> x(kSamples * 6, 0.5f);
        const std::vector<std::int32_t> y(kSamples, 3);
        hdf5::File file = hdf5::File::create(folder / "set.h5");
        file.write("x", DType::float32, {kSamples, 2, 3}, x.data());
        file.write("y", DType::int32, {kSamples}, y.data());
        file.close();
        return {{"file", (folder / "set.h5").string()}};
      }}},
    {"csv",
     {{{"model.type", std::string("cnn")}, {"model.filters", numbers({2})}, {"model.hidden", std::int64_t{5}}},
      [](const fs::path& folder) -> Options {
        std::string text = "kind,a,b,c,d\n";
        for (int i = 0; i < kSamples; ++i) text += std::string(i % 3 == 0 ? "\"un,\"" : "deux") + ",1,2,3," + std::to_string(i) + "\n";
        write_bytes(folder / "set.csv", text);
        return {{"file", (folder / "set.csv").string()}, {"label", std::string("kind")}, {"label_kind", std::string("name")},
                {"field", std::string("image")}, {"shape", numbers({2, 2, 1})}};
      }}},
    {"image_folder",
     {{{"model.type", std::string("autoencoder")}, {"model.filters", numbers({2})}},
      [](const fs::path& folder) -> Options {
        for (int i = 0; i < kSamples; ++i) {
          const fs::path path = folder / (i % 2 == 0 ? "even" : "odd") / (std::to_string(i) + ".png");
          fs::create_directories(path.parent_path());
          write_bytes(path, png_of(4, 4, PNG_FORMAT_GRAY, Pixels(16, static_cast<unsigned char>(i * 7))));
        }
        return {{"directory", folder.string()}, {"channels", std::int64_t{1}}};
      }}},
    {"text",
     {{{"model.type", std::string("gpt")}, {"model.layers", std::int64_t{1}}, {"model.width", std::int64_t{8}}, {"model.heads", std::int64_t{2}}},
      [](const fs::path& folder) -> Options {
        write_bytes(folder / "text", std::string(4 * kSamples + 1, 'a'));
        return {{"files", OptionList{{(folder / "text").string(), "test"}}}, {"context", std::int64_t{4}}};
      }}},
    {"synthetic",
     {{{"model.type", std::string("resnet")}, {"model.depth", std::int64_t{8}}, {"model.width", std::int64_t{4}}},
      [](const fs::path&) -> Options { return {{"samples", std::int64_t{kSamples}}, {"shape", numbers({8, 8, 1})}}; }}},
};

class EveryReader : public ::testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] Options options() const {
    const auto maker = kMakers.find(GetParam());
    check(maker != kMakers.end(), Code::not_found, "reader '" + GetParam() + "' trains nothing here: add it to kMakers");
    Options all = with(maker->second.model, {{"train.directory", path("run")}, {"train.max_steps", std::int64_t{2}},
                                             {"data.batch", std::int64_t{2}}, {"data.threads", std::int64_t{0}}});
    for (const std::string set : {"train", "validation"}) {
      fs::create_directories(path(set));
      all["data." + set + ".reader"] = GetParam();
      for (const auto& [key, value] : maker->second.set(path(set))) all["data." + set + "." + key] = value;
    }
    return all;
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  TemporaryFolder folder_;
};

TEST_P(EveryReader, TrainsAModelThatIsEvaluatedWithoutTheTrainingData) {
  const Options all = options();
  const TrainResult result = train_with(2, all);
  EXPECT_EQ(result.steps, 2);
  ASSERT_TRUE(result.validation.has_value());
  fs::remove_all(path("train"));
  for (const int ranks : {1, 2}) {
    run_as_threads(ranks, [&](Communicator& communicator) {
      Section config = section_of(all);
      const Evaluation evaluation = evaluate(communicator, config, "");
      EXPECT_EQ(evaluation.samples, kSamples);
      EXPECT_NEAR(evaluation.loss, result.validation->loss, 1e-6);
    }, {.timeout = kHung});
  }
  Section config = section_of(all);
  run_as_threads(1, [&](Communicator& alone) {
    const JobFields given = fields_of_job(alone, config);
    EXPECT_EQ(given.fields.size(), 2u);
    EXPECT_THAT(given.from, HasSubstr(GetParam() == "synthetic" ? "data.train" : "data.validation"));
  }, {.timeout = kHung});
}

/// Nor are the validation data needed for a text, or to see what the model consists of: the checkpoint knows what it was given.
TEST_P(EveryReader, TheCheckpointKeepsTheFields) {
  const Options all = options();
  std::vector<Field> fields;
  const auto given = [&] {
    JobFields result;
    run_as_threads(1, [&](Communicator& alone) {
      Section config = section_of(all);
      result = fields_of_job(alone, config);
    }, {.timeout = kHung});
    return result;
  };
  const JobFields before = given();
  const TrainResult result = train_with(1, all);
  fs::remove_all(path("train"));
  fs::remove_all(path("validation"));
  const JobFields after = given();
  ASSERT_EQ(after.fields.size(), before.fields.size());
  for (std::size_t f = 0; f < after.fields.size(); ++f) {
    EXPECT_EQ(after.fields[f].name, before.fields[f].name);
    EXPECT_EQ(after.fields[f].dtype, before.fields[f].dtype);
    EXPECT_EQ(after.fields[f].shape, before.fields[f].shape);
  }
  if (GetParam() == "synthetic") return;
  EXPECT_THAT(after.from, HasSubstr("run/checkpoints/"));
  fs::remove_all(path("run"));
  EXPECT_THAT(error_of(given), AllOf(HasSubstr("nothing says which fields the model is given: data.train: "), HasSubstr("; data.validation: "),
                                     HasSubstr("no run named")));
}

INSTANTIATE_TEST_SUITE_P(Readers, EveryReader, ::testing::Values("csv", "hdf5", "idx", "image_folder", "synthetic", "text"),
                         [](const auto& test) { return test.param; });

TEST(EveryReaderOfTheBox, HasItsTest) {
  for (const std::string& name : Registry<ReaderType>::instance().names()) EXPECT_TRUE(kMakers.contains(name)) << name;
}

TEST(Generate, NeedsNoData) {
  const TemporaryFolder folder;
  write_bytes(folder.file("text"), std::string(100, 'a'));
  const Options all = {{"train.directory", folder.file("run")}, {"train.max_steps", std::int64_t{30}}, {"train.epochs", std::int64_t{30}},
                       {"model.type", std::string("lstm")}, {"model.units", std::int64_t{8}}, {"model.width", std::int64_t{8}},
                       {"data.train.reader", std::string("text")}, {"data.train.context", std::int64_t{4}},
                       {"data.train.files", OptionList{{folder.file("text"), "test"}}}, {"optimizer.type", std::string("adam")},
                       {"schedule.learning_rate", 0.05}, {"generate.length", std::int64_t{5}}, {"generate.temperature", std::int64_t{0}},
                       {"generate.prompt", std::string("a")}};
  Options training = all;
  std::erase_if(training, [](const auto& option) { return option.first.starts_with("generate."); });
  static_cast<void>(train_with(1, training));
  fs::remove(folder.file("text"));
  run_as_threads(2, [&](Communicator& communicator) {
    Section config = section_of(all);
    const std::string text = generate(communicator, config, "");
    EXPECT_EQ(text, communicator.rank() == 0 ? "aaaaaa" : "");
  }, {.timeout = kHung});
}

}  // namespace
}  // namespace cohort
