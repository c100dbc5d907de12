// The data sets of a run agree: fields fit, labels mean the same classes in all of them and after a resume, none is empty.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "data/image_files.hpp"
#include "run/setup.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

OptionList texts(const std::vector<std::string>& values) {
  OptionList list;
  for (const std::string& value : values) list.push_back({value, "test"});
  return list;
}

class DataSets : public ::testing::Test {
 protected:
  /// Three images of each class; each pixel says which class it is.
  void put(const std::string& set, const std::vector<std::string>& classes) const {
    for (const std::string& name : classes) {
      for (int i = 0; i < 3; ++i) {
        const fs::path path = folder_.path() / set / name / (std::to_string(i) + ".png");
        fs::create_directories(path.parent_path());
        write_bytes(path.string(),
                    png_of(2, 2, PNG_FORMAT_GRAY, Pixels(4, shade_of(name) + static_cast<unsigned char>(i))));
      }
    }
  }
  static unsigned char shade_of(const std::string& name) { return static_cast<unsigned char>(name[0] - 'a') * 10; }

  [[nodiscard]] Options folders(const Options& changes = {}) const {
    return with(common(), with({{"data.train.reader", std::string("image_folder")},
                                {"data.train.directory", path("train")},
                                {"data.train.channels", std::int64_t{1}},
                                {"data.validation.reader", std::string("image_folder")},
                                {"data.validation.directory", path("validation")},
                                {"data.validation.channels", std::int64_t{1}}},
                               changes));
  }
  [[nodiscard]] Options common() const {
    return {{"train.directory", path("run")},   {"train.epochs", std::int64_t{2}},
            {"model.type", std::string("mlp")}, {"model.hidden", OptionList{{std::int64_t{5}, "test"}}},
            {"data.batch", std::int64_t{4}},    {"data.threads", std::int64_t{0}}};
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  /// All labels of a set, each at the shade of its images.
  static std::map<int, std::int32_t> labels_of(const Reader& reader) {
    std::vector<std::uint32_t> all(static_cast<std::size_t>(reader.size()));
    std::iota(all.begin(), all.end(), 0u);
    std::vector<float> pixels(all.size() * 4);
    std::vector<std::int32_t> labels(all.size());
    void* const buffers[] = {pixels.data(), labels.data()};
    reader.read(all, buffers);
    std::map<int, std::int32_t> result;
    for (std::size_t i = 0; i < all.size(); ++i) result[static_cast<int>(pixels[4 * i] * 255 + 0.5f) / 10 * 10] = labels[i];
    return result;
  }
  static std::string error_with(const Options& options, const std::string& resume = {}) {
    return error_of([&] { train_with(1, options, resume); });
  }
  static Evaluation evaluate_with(int ranks, const Options& options, const std::string& checkpoint) {
    Evaluation result;
    run_as_threads(ranks, [&](Communicator& communicator) {
      Section config = section_of(options);
      const Evaluation mine = evaluate(communicator, config, checkpoint);
      if (communicator.rank() == 0) result = mine;
    }, {.timeout = testing::kHung});
    return result;
  }
  static std::string classes_of(const fs::path& checkpoint) {
    const auto file = hdf5::File::open(checkpoint);
    return file.has("/data/classes") ? file.read_text("/data/classes") : "";
  }

  TemporaryFolder folder_;
};

TEST_F(DataSets, LabelsMeanTheSameClassesInAllSets) {
  put("train", {"ant", "bee", "cat", "dog"});
  put("validation", {"bee", "dog"});
  Section config = section_of(folders());
  const Description description(config);
  EXPECT_THAT(description.classes, ElementsAre("ant", "bee", "cat", "dog"));
  EXPECT_EQ(labels_of(*description.training_data), (std::map<int, std::int32_t>{{0, 0}, {10, 1}, {20, 2}, {30, 3}}));
  EXPECT_EQ(labels_of(*description.validation_data), (std::map<int, std::int32_t>{{10, 1}, {30, 3}}));
  EXPECT_THAT(description.classes_note, HasSubstr("data.validation has no samples of these classes: ant, cat"));
  Section cut = section_of(folders({{"data.validation.limit", std::int64_t{4}}}));
  EXPECT_EQ(labels_of(*Description(cut).validation_data), (std::map<int, std::int32_t>{{10, 1}, {30, 3}}));

  Section listed = section_of(folders({{"data.train.classes", texts({"dog", "cat", "bee", "ant", "eel"})}}));
  const Description other(listed);
  EXPECT_EQ(labels_of(*other.training_data), (std::map<int, std::int32_t>{{0, 3}, {10, 2}, {20, 1}, {30, 0}}));
  EXPECT_EQ(labels_of(*other.validation_data), (std::map<int, std::int32_t>{{10, 2}, {30, 0}}));
}

TEST_F(DataSets, AnUnknownClassIsNamed) {
  put("train", {"ant", "bee"});
  put("validation", {"ant", "cow"});
  EXPECT_THAT(error_with(folders()), AllOf(HasSubstr("data.validation: unknown class 'cow'"), HasSubstr("Known: ant bee")));
  EXPECT_THAT(error_with(folders({{"data.train.classes", texts({"bee"})}})),
              AllOf(HasSubstr("train/ant: unknown class 'ant'"), HasSubstr("Known: bee")));
  EXPECT_THAT(error_with(folders({{"data.train.classes", texts({"bee", "ant", "bee"})}})),
              HasSubstr("class 'bee' is listed twice"));
}

TEST_F(DataSets, ClassesAreKeptInTheCheckpointAndGoOnByName) {
  put("train", {"ant", "bee", "cat"});
  put("validation", {"ant", "bee", "cat"});
  for (const int ranks : {1, 2}) {
    const Options whole = folders({{"train.directory", path("whole")}}),
                  half = folders({{"train.directory", path("half")}});
    const TrainResult expected = train_with(ranks, whole);
    const TrainResult first = train_with(ranks, with(half, {{"train.epochs", std::int64_t{1}}}));
    EXPECT_EQ(classes_of(first.checkpoint), "ant\nbee\ncat");
    // The labels are the checkpoint's, whatever order is given now.
    const Options listed = with(half, {{"data.train.classes", texts({"cat", "ant", "bee"})}});
    const TrainResult resumed = train_with(ranks, listed, first.checkpoint.string());
    EXPECT_EQ(classes_of(resumed.checkpoint), "ant\nbee\ncat");
    expect_same_bits(expected.checkpoint, resumed.checkpoint);
    EXPECT_EQ(evaluate_with(ranks, listed, resumed.checkpoint.string()).loss, expected.validation->loss);
    fs::remove_all(path("whole"));
    fs::remove_all(path("half"));
  }
}

TEST_F(DataSets, OtherClassesAreRefusedOnResumeAndEvaluation) {
  put("train", {"ant", "bee", "cat"});
  put("validation", {"ant", "bee", "cat"});
  const std::string checkpoint = train_with(1, folders()).checkpoint.string();
  const Options longer = folders({{"train.epochs", std::int64_t{3}}});
  put("train", {"dog"});
  EXPECT_THAT(error_with(longer, checkpoint),
              AllOf(HasSubstr("data.train has other classes"), HasSubstr("not in the checkpoint: dog")));
  fs::remove_all(path("train/dog"));
  fs::rename(path("train/ant"), path("train/eel"));
  fs::remove_all(path("validation/ant"));
  EXPECT_THAT(error_with(longer, checkpoint),
              AllOf(HasSubstr("not in the checkpoint: eel"), HasSubstr("only in the checkpoint: ant")));
  EXPECT_EQ(evaluate_with(2, longer, checkpoint).samples, 6) << "the training data are nobody's business there";
  fs::rename(path("validation/bee"), path("validation/eel"));
  EXPECT_THAT(error_of([&] { evaluate_with(1, longer, checkpoint); }),
              AllOf(HasSubstr("data.validation: unknown class 'eel'"), HasSubstr("Known: ant bee cat")));
}

/// The same images with numbers as labels, in a file; a run with them has no names to keep.
TEST_F(DataSets, ACheckpointWithoutNamesTakesThoseOfTheDataSet) {
  put("train", {"ant", "bee", "cat"});
  put("validation", {"bee"});
  const std::vector<float> images(6 * 4, 0.5f);
  const std::vector<std::int32_t> labels = {0, 1, 2, 0, 1, 2};
  hdf5::File file = hdf5::File::create(path("set.h5"));
  file.write("image", DType::float32, {6, 2, 2, 1}, images.data());
  file.write("label", DType::int32, {6}, labels.data());
  file.close();
  const Options numbers = with(common(), {{"data.train.reader", std::string("hdf5")}, {"data.train.file", path("set.h5")}});
  const TrainResult old = train_with(1, with(numbers, {{"train.epochs", std::int64_t{1}}}));
  EXPECT_EQ(classes_of(old.checkpoint), "");
  EXPECT_EQ(evaluate_with(1, folders(), old.checkpoint.string()).samples, 3);
  EXPECT_EQ(classes_of(train_with(1, folders(), old.checkpoint.string()).checkpoint), "ant\nbee\ncat");
}

TEST_F(DataSets, ClassesPassThroughPhasesAndParameterTasks) {
  put("train", {"ant", "bee", "cat"});
  put("validation", {"cat"});
  const Options warm = folders({{"warmup.replicas", std::int64_t{1}}, {"warmup.epochs", std::int64_t{1}}});
  EXPECT_EQ(classes_of(train_with(2, warm).checkpoint), "ant\nbee\ncat");
  const Options tasks = folders(
      {{"train.updater", std::string("async")}, {"cluster.ps", std::int64_t{1}}, {"train.directory", path("tasks")}});
  const TrainResult first = train_with(2, with(tasks, {{"train.epochs", std::int64_t{1}}}));
  EXPECT_EQ(classes_of(first.checkpoint), "ant\nbee\ncat");
  EXPECT_EQ(classes_of(train_with(2, tasks, first.checkpoint.string()).checkpoint), "ant\nbee\ncat");
}

TEST_F(DataSets, WithoutSamplesAreRefusedAtTheStart) {
  write_bytes(path("some.csv"), "a,b,label\n1,2,0\n3,4,1\n");
  write_bytes(path("none.csv"), "a,b,label\n");
  const auto csv = [&](const std::string& train, const std::string& validation) {
    return with(common(), {{"data.train.reader", std::string("csv")}, {"data.train.file", path(train)},
                           {"data.validation.reader", std::string("csv")}, {"data.validation.file", path(validation)}});
  };
  for (const int ranks : {1, 2}) {
    const auto error = [&](const Options& options) { return error_of([&] { train_with(ranks, options); }); };
    EXPECT_THAT(error(csv("none.csv", "some.csv")),
                AllOf(HasSubstr("data.train: the data set has no samples"), HasSubstr(path("none.csv"))));
    EXPECT_THAT(error(csv("some.csv", "none.csv")),
                AllOf(HasSubstr("data.validation: the data set has no samples"), HasSubstr(path("none.csv"))));
    EXPECT_FALSE(fs::exists(path("run"))) << "nothing is left behind";
  }
  EXPECT_THAT(error_of([&] { evaluate_with(1, csv("some.csv", "none.csv"), ""); }),
              HasSubstr("data.validation: the data set has no samples"));
}

/// Whoever comes to it by another way than a job file: a mean of nothing is no number.
TEST_F(DataSets, AnEvaluationOfNoSamplesIsAnError) {
  write_bytes(path("some.csv"), "a,b,label\n1,2,0\n3,4,1\n");
  write_bytes(path("none.csv"), "a,b,label\n");
  const Options options = with(common(), {{"data.train.reader", std::string("csv")}, {"data.train.file", path("some.csv")}});
  for (const int ranks : {1, 2}) {
    EXPECT_THAT(error_of([&] {
                  run_as_threads(ranks, [&](Communicator& communicator) {
                    Section config = section_of(options);
                    cohort::Setup setup(communicator, config);
                    Section none = section_of({{"reader", std::string("csv")}, {"file", path("none.csv")}});
                    BatchPipeline data(open_reader(none), setup.pipeline, communicator.rank(), ranks, BatchUse::evaluation);
                    static_cast<void>(evaluate(communicator, *setup.replica, data));
                  }, {.timeout = kHung});
                }),
                HasSubstr("an evaluation of no samples has no result"));
  }
}

/// An HDF5 set with one field of each name, shape and type.
void write_set(const std::string& path, const std::vector<Field>& fields) {
  hdf5::File file = hdf5::File::create(path);
  for (const Field& field : fields) {
    Shape shape = field.shape;
    shape.insert(0, 5);
    const Tensor zeros(host(), field.dtype, shape);
    std::memset(zeros.raw(), 0, zeros.bytes());
    file.write(field.name, zeros);
  }
  file.close();
}

TEST_F(DataSets, FieldsMustFitBeforeTrainingStarts) {
  const auto image = [](const Shape& shape, DType dtype = DType::float32) { return Field{"image", dtype, shape}; };
  const Field label{"label", DType::int32, {}};
  write_set(path("train.h5"), {image({2, 3}), label});
  const auto error = [&](const std::vector<Field>& fields) {
    fs::remove(path("validation.h5"));
    write_set(path("validation.h5"), fields);
    return error_with(with(common(), {{"data.train.reader", std::string("hdf5")},
                                      {"data.train.file", path("train.h5")},
                                      {"data.validation.reader", std::string("hdf5")},
                                      {"data.validation.file", path("validation.h5")}}));
  };
  EXPECT_THAT(error({image({2, 3}), label}), IsEmpty());
  fs::remove_all(path("run"));
  EXPECT_THAT(
      error({image({3, 2}), label}),
      HasSubstr(
          "data.validation: field 'image' is float32[3, 2] in each sample, and float32[2, 3] in those of data.train"));
  EXPECT_THAT(error({image({2, 3}, DType::float64), label}),
              AllOf(HasSubstr("field 'image' is float64[2, 3]"), HasSubstr("float32[2, 3]")));
  EXPECT_THAT(error({image({2, 3})}), HasSubstr("data.validation: has no field 'label', which data.train has"));
  EXPECT_THAT(error({image({2, 3}), label, {"weight", DType::float32, {}}}),
              HasSubstr("data.validation: has a field 'weight', which data.train has not"));
  EXPECT_FALSE(fs::exists(path("run")));
}

/// Fields are matched by name, not by place.
TEST_F(DataSets, FieldsMayComeInAnotherOrder) {
  write_set(path("set.h5"), {{"a", DType::float32, {2}}, {"b", DType::int32, {}}});
  Options options = common();
  Section config = section_of(options);
  for (const auto& [section, names] : std::initializer_list<std::pair<const char*, std::vector<const char*>>>{
           {"train", {"a", "b"}}, {"validation", {"b", "a"}}}) {
    Section& set = config.child("data").child(section);
    set.set("reader", {std::string("hdf5"), "test"});
    set.set("file", {path("set.h5"), "test"});
    for (const char* name : names) set.add_child_entry("field").set("name", {std::string(name), "test"});
  }
  const Description description(config);
  ASSERT_EQ(description.validation_data->fields().size(), 2u);
  EXPECT_EQ(description.validation_data->fields()[0].name, "a");
  float a[2] = {7, 7};
  std::int32_t b = 7;
  void* const buffers[] = {a, &b};
  description.validation_data->read(std::vector<std::uint32_t>{3}, buffers);
  EXPECT_EQ(a[0] + a[1] + static_cast<float>(b), 0);
}

}  // namespace
}  // namespace cohort
