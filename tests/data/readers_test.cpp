#include "cohort/data/reader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <thread>

#include "data/files.hpp"
#include "data/image_files.hpp"
#include "hdf5/file.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Reads samples into memory with a guard behind it.
std::vector<std::vector<std::byte>> read(const Reader& reader, const std::vector<std::uint32_t>& samples) {
  constexpr std::size_t kGuard = 64;
  std::vector<std::vector<std::byte>> memory;
  std::vector<void*> buffers;
  for (const Field& field : reader.fields()) {
    const std::size_t bytes = samples.size() * static_cast<std::size_t>(field.shape.elements()) * size_of(field.dtype);
    memory.emplace_back(bytes + kGuard, std::byte{0xa5});
  }
  for (auto& field : memory) buffers.push_back(field.data());
  reader.read(samples, buffers);
  for (auto& field : memory) {
    for (std::size_t i = field.size() - kGuard; i < field.size(); ++i)
      check(field[i] == std::byte{0xa5}, Code::internal, "wrote too far");
    field.resize(field.size() - kGuard);
  }
  return memory;
}

template <class T>
std::vector<T> values(const std::vector<std::byte>& bytes) {
  std::vector<T> result(bytes.size() / sizeof(T));
  std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

/// How to make a data set of `n` samples of each kind: a new reader has to come here to be tested.
using Maker = std::function<Options(const TemporaryFolder&, int n)>;
const std::map<std::string, Maker> kMakers = {
    {"idx",
     [](const TemporaryFolder& folder, int n) {
       write_bytes(folder.file("images"), idx_images(static_cast<std::uint32_t>(n)));
       write_bytes(folder.file("labels.gz"), gzip(idx_labels(static_cast<std::uint32_t>(n))));
       return Options().with("images", folder.file("images")).with("labels", folder.file("labels.gz"));
     }},
    {"hdf5",
     [](const TemporaryFolder& folder, int n) {
       std::vector<float> x(static_cast<std::size_t>(n) * 4);
       std::vector<std::int64_t> y(static_cast<std::size_t>(n));
       for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
       for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int64_t>(i % 3);
       const std::string path = folder.file("set.h5");
       if (std::filesystem::exists(path)) return Options().with("file", path);   // an open file is not written again
       hdf5::File out = hdf5::File::create(path);
       out.write("x", DType::float32, {n, 2, 2}, x.data());
       out.write("y", DType::int64, {n}, y.data());
       out.close();
       return Options().with("file", path);
     }},
    {"csv",
     [](const TemporaryFolder& folder, int n) {
       std::string text = "a,label,b\n";
       for (int i = 0; i < n; ++i)
         text += std::to_string(i) + ".5," + std::to_string(i % 3) + "," + std::to_string(-i) + "\n";
       write_bytes(folder.file("set.csv"), text);
       return Options().with("file", folder.file("set.csv"));
     }},
    {"text",
     [](const TemporaryFolder& folder, int n) {
       std::string text;
       for (int i = 0; i <= 2 * n; ++i) text += static_cast<char>('a' + i * i % 23);
       write_bytes(folder.file("text.gz"), gzip(text));
       return Options().with("files", {folder.file("text.gz").c_str()}).with("context", 2);
     }},
    {"image_folder",
     [](const TemporaryFolder& folder, int n) {
       for (int i = 0; i < n; ++i) {
         const std::filesystem::path path = folder.path() / (i % 2 == 0 ? "even" : "odd") / (std::to_string(100 + i) + ".png");
         std::filesystem::create_directories(path.parent_path());
         const auto grey = static_cast<unsigned char>(i * 7);
         write_bytes(path, png_of(2, 2, PNG_FORMAT_GRAY, {grey, 1, 2, 3}));
       }
       return Options().with("directory", folder.path().string()).with("channels", 1);
     }},
    {"synthetic", [](const TemporaryFolder&, int n) { return Options().with("samples", n).with("shape", {3, 5, 1}); }},
};

class EveryReader : public ::testing::TestWithParam<std::string> {
 protected:
  std::shared_ptr<const Reader> open(int n, int limit = 0) {
    const auto maker = kMakers.find(GetParam());
    check(maker != kMakers.end(), Code::not_found, "reader '" + GetParam() + "' has no test: add it to kMakers");
    Options options = maker->second(folder_, n).with("reader", GetParam()).with("limit", limit);
    auto reader = open_reader(options.section());
    options.section().finish();
    return reader;
  }
  TemporaryFolder folder_;
};

TEST_P(EveryReader, SaysWhatItHas) {
  const auto reader = open(23);
  EXPECT_EQ(reader->size(), 23);
  ASSERT_FALSE(reader->fields().empty());
  for (const Field& field : reader->fields()) {
    EXPECT_FALSE(field.name.empty());
    EXPECT_TRUE(field.shape.known());
  }
  EXPECT_EQ(open(23, 7)->size(), 7);
  EXPECT_EQ(open(23, 24)->size(), 23);
}

TEST_P(EveryReader, AnySamplesInAnyOrder) {
  const auto reader = open(13);
  EXPECT_TRUE(read(*reader, {})[0].empty());
  const std::vector<std::uint32_t> order = {12, 3, 4, 5, 3, 0};
  const auto together = read(*reader, order);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto alone = read(*reader, {order[i]});
    for (std::size_t f = 0; f < alone.size(); ++f) {
      const std::size_t bytes = alone[f].size();
      EXPECT_EQ(std::memcmp(together[f].data() + i * bytes, alone[f].data(), bytes), 0)
          << "sample " << order[i] << " field " << f;
    }
  }
  EXPECT_NE(read(*reader, {1})[0], read(*reader, {2})[0]) << "samples differ";
}

TEST_P(EveryReader, IsThreadSafe) {
  const auto reader = open(40);
  std::vector<std::uint32_t> all(40);
  for (std::uint32_t i = 0; i < 40; ++i) all[i] = i * 7 % 40;
  const auto expected = read(*reader, all);
  std::vector<int> wrong(4, -1);
  std::vector<std::jthread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      wrong[t] = 0;
      for (int round = 0; round < 20; ++round) wrong[t] += read(*reader, all) == expected ? 0 : 1;
    });
  }
  threads.clear();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST_P(EveryReader, RefusesUnknownKeys) {
  Options options = kMakers.at(GetParam())(folder_, 3).with("reader", GetParam()).with("imags", "x");
  static_cast<void>(open_reader(options.section()));
  EXPECT_THAT(error_of([&] { options.section().finish(); }), HasSubstr("unknown key 'data.imags'"));
}

/// Options are bound, and checked, where the data are missing.
TEST_P(EveryReader, BindsItsOptionsWithoutTheData) {
  Options options = kMakers.at(GetParam())(folder_, 3).with("reader", GetParam()).with("limit", 2);
  std::filesystem::remove_all(folder_.path());
  bind_reader(options.section());
  options.section().finish();
  Options wrong = kMakers.at(GetParam())(TemporaryFolder(), 3).with("reader", GetParam()).with("limit", -1);
  EXPECT_THAT(error_of([&] { bind_reader(wrong.section()); }), HasSubstr("data.limit = -1"));
}

INSTANTIATE_TEST_SUITE_P(Readers, EveryReader, ::testing::ValuesIn(Registry<ReaderType>::instance().names()),
                         [](const auto& test) { return test.param; });

TEST(Readers, EveryMakerIsOfARegisteredReader) {
  for (const auto& [name, maker] : kMakers) EXPECT_NE(Registry<ReaderType>::instance().find(name), nullptr) << name;
}

std::shared_ptr<const Reader> open(Options options) { return open_reader(options.section()); }

TEST(IdxReader, PixelsAreNormalisedAndLabelsWhole) {
  const TemporaryFolder folder;
  write_bytes(folder.file("i.gz"), gzip(idx_images(12)));
  write_bytes(folder.file("l"), idx_labels(12));
  const auto reader = open(
      Options().with("images", folder.file("i.gz")).with("labels", folder.file("l")).with("mean", 0.25).with("std", 0.5));
  EXPECT_EQ(reader->fields()[0].name, "image");
  EXPECT_EQ(reader->fields()[0].shape, (Shape{2, 3, 1}));
  EXPECT_EQ(reader->fields()[1].dtype, DType::int32);
  const auto got = read(*reader, {7, 11});
  const auto pixels = values<float>(got[0]);
  for (std::size_t j = 0; j < 6; ++j) {
    EXPECT_FLOAT_EQ(pixels[j], static_cast<float>(((70.0 + static_cast<double>(j)) / 255 - 0.25) / 0.5));
    EXPECT_FLOAT_EQ(pixels[6 + j], static_cast<float>(((110.0 + static_cast<double>(j)) / 255 - 0.25) / 0.5));
  }
  EXPECT_THAT(values<std::int32_t>(got[1]), ElementsAre(7, 1));
}

TEST(IdxReader, SeveralGzipMembersAreOneFile) {
  const TemporaryFolder folder;
  const std::string images = idx_images(12);
  write_bytes(folder.file("i.gz"), gzip(images.substr(0, 30)) + gzip(images.substr(30)));
  write_bytes(folder.file("l"), idx_labels(12));
  EXPECT_EQ(open(Options().with("images", folder.file("i.gz")).with("labels", folder.file("l")))->size(), 12);
}

TEST(IdxReader, ZerosBehindAGzipFileAreNoMember) {
  const TemporaryFolder folder;
  const std::string images = idx_images(12);
  const std::string zeros(100'000, '\0');       // more than is read at once
  write_bytes(folder.file("l"), idx_labels(12));
  for (const std::string& tail : {std::string(1, '\0'), zeros, gzip("") + zeros}) {
    write_bytes(folder.file("i.gz"), gzip(images) + tail);
    EXPECT_EQ(open(Options().with("images", folder.file("i.gz")).with("labels", folder.file("l")))->size(), 12);
  }
  write_bytes(folder.file("i.gz"), gzip(images) + zeros + "x");
  EXPECT_THROW((void)open(Options().with("images", folder.file("i.gz")).with("labels", folder.file("l"))), Error);
}

TEST(IdxReader, FashionMnist) {
  const std::string folder = "/usr/share/datasets/fashion-mnist/";
  ASSERT_TRUE(std::filesystem::exists(folder)) << "install the Debian package dataset-fashion-mnist";
  const auto reader = open(Options()
                               .with("images", folder + "t10k-images-idx3-ubyte.gz")
                               .with("labels", folder + "t10k-labels-idx1-ubyte.gz"));
  EXPECT_EQ(reader->size(), 10'000);
  EXPECT_EQ(reader->fields()[0].shape, (Shape{28, 28, 1}));
  std::vector<std::uint32_t> all(10'000);
  for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  const auto got = read(*reader, all);
  std::vector<int> of_class(10);
  for (const std::int32_t label : values<std::int32_t>(got[1])) ++of_class[static_cast<std::size_t>(label)];
  EXPECT_THAT(of_class, ::testing::Each(1000));
  double sum = 0;
  for (const float pixel : values<float>(got[0])) sum += pixel;
  EXPECT_NEAR(sum / (10'000 * 784.0), 0.2868, 5e-4);   // the set's published mean
}

TEST(Hdf5Reader, NamedFieldsAreConvertedNormalisedAndChecked) {
  const TemporaryFolder folder;
  const std::vector<std::uint8_t> pixels = {0, 51, 102, 153, 204, 255};
  const std::vector<std::int64_t> classes = {2, 0, 3};
  hdf5::File out = hdf5::File::create(folder.file("s.h5"));
  out.write("/train/pixels", DType::uint8, {3, 2}, pixels.data());
  out.write("/train/classes", DType::int64, {3}, classes.data());
  out.close();
  const auto make = [&](int count) {
    Options options;
    options.with("file", folder.file("s.h5"));
    Section& image = options.section().add_child_entry("field");
    image.set("name", {std::string("image"), "test"});
    image.set("dataset", {std::string("/train/pixels"), "test"});
    image.set("dtype", {std::string("float32"), "test"});
    image.set("scale", {1.0 / 255, "test"});
    image.set("mean", {0.5, "test"});
    Section& label = options.section().add_child_entry("field");
    label.set("name", {std::string("label"), "test"});
    label.set("dataset", {std::string("/train/classes"), "test"});
    label.set("dtype", {std::string("int32"), "test"});
    label.set("classes", {std::int64_t{count}, "test"});
    return open(options.with("reader", "hdf5"));
  };
  const auto got = read(*make(4), {2, 0});
  const auto image = values<float>(got[0]);
  EXPECT_NEAR(image[0], 0.3, 1e-6);
  EXPECT_NEAR(image[1], 0.5, 1e-6);
  EXPECT_NEAR(image[2], -0.5, 1e-6);
  EXPECT_THAT(values<std::int32_t>(got[1]), ElementsAre(3, 2));
  EXPECT_THAT(error_of([&] { read(*make(3), {2, 0}); }),
              HasSubstr("s.h5: '/train/classes': sample 2 holds 3, expected from 0 to below classes = 3"));
}

TEST(CsvReader, QuotesSpacesLineEndsAndChosenColumns) {
  const TemporaryFolder folder;
  write_bytes(folder.file("s.csv"), "\xef\xbb\xbf\"na\"\"me\";b;text;y\r\n\r\n1e2; -2.5 ;\"a;b\";0.5\r\n\"3\";+4;c;-1\r\n");
  const auto reader = open(Options()
                               .with("file", folder.file("s.csv"))
                               .with("reader", "csv")
                               .with("separator", ";")
                               .with("label", "y")
                               .with("label_kind", "value")
                               .with("features", {"b", "na\"me"})
                               .with("scale", 2.0)
                               .with("shape", {1, 2}));
  EXPECT_EQ(reader->fields()[0].shape, (Shape{1, 2}));
  const auto got = read(*reader, {0, 1});
  EXPECT_THAT(values<float>(got[0]), ElementsAre(-5.f, 200.f, 8.f, 6.f));
  EXPECT_THAT(values<float>(got[1]), ElementsAre(0.5f, -1.f));
}

TEST(CsvReader, AQuotedCellMayHoldALineEnd) {
  const TemporaryFolder folder;
  write_bytes(folder.file("s.csv"), std::string("a,\"of\r\nwhat\",label\n1,\"two\n\nlines\",0\n2,\"a \"\"q\"\",\n\",1\r\n"));
  const auto reader = open(Options().with("file", folder.file("s.csv")).with("reader", "csv").with("features", {"a"}));
  ASSERT_EQ(reader->size(), 2);
  const auto got = read(*reader, {0, 1});
  EXPECT_THAT(values<float>(got[0]), ElementsAre(1.f, 2.f));
  EXPECT_THAT(values<std::int32_t>(got[1]), ElementsAre(0, 1));
}

TEST(CsvReader, TheFieldHasTheNameThatIsAskedFor) {
  const TemporaryFolder folder;
  write_bytes(folder.file("s.csv"), "a,b,label\n1,2,0\n");
  const auto reader = open(Options().with("file", folder.file("s.csv")).with("reader", "csv").with("field", "image"));
  EXPECT_EQ(reader->fields()[0].name, "image");
  EXPECT_EQ(reader->fields()[0].shape, (Shape{2}));
  EXPECT_THAT(error_of([&] {
                open(Options().with("file", folder.file("s.csv")).with("reader", "csv").with("field", "label"));
              }),
              HasSubstr("data.field is 'label'"));
}

/// Labels are places in the sorted names, whatever order the lines come in, or in the list that is given.
TEST(CsvReader, LabelsMayBeNames) {
  const TemporaryFolder folder;
  write_bytes(folder.file("s.csv"), "a,label\n1,dog\n2,\"ant, red\"\n3,cow\n4,dog\n");
  write_bytes(folder.file("t.csv"), "a,label\n3,cow\n4,dog\n1,dog\n2,\"ant, red\"\n");
  const auto set = [&](const char* file) {
    return Options().with("file", folder.file(file)).with("reader", "csv").with("label_kind", "name");
  };
  const auto s = open(set("s.csv")), t = open(set("t.csv"));
  EXPECT_THAT(s->classes().names, ElementsAre("ant, red", "cow", "dog"));
  EXPECT_EQ(s->classes().field, "label");
  EXPECT_EQ(t->classes().names, s->classes().names);
  EXPECT_THAT(values<std::int32_t>(read(*s, {0, 1, 2, 3})[1]), ElementsAre(2, 0, 1, 2));
  EXPECT_THAT(values<std::int32_t>(read(*t, {0, 1, 2, 3})[1]), ElementsAre(1, 2, 2, 0));
  const auto listed = open(set("s.csv").with("names", {"dog", "emu", "cow", "ant, red"}));
  EXPECT_THAT(listed->classes().names, ElementsAre("dog", "emu", "cow", "ant, red"));
  EXPECT_THAT(values<std::int32_t>(read(*listed, {0, 1, 2, 3})[1]), ElementsAre(0, 3, 2, 0));
}

TEST(CsvReader, WithoutALabel) {
  const TemporaryFolder folder;
  write_bytes(folder.file("s.csv.gz"), gzip("a,b\n1,2"));
  const auto reader = open(Options().with("file", folder.file("s.csv.gz")).with("reader", "csv").with("label", ""));
  EXPECT_EQ(reader->fields().size(), 1u);
  EXPECT_THAT(values<float>(read(*reader, {0})[0]), ElementsAre(1.f, 2.f));
}

/// A nearest-pattern rule learnt from one set classifies another: the task can be learnt, and sets share their classes.
TEST(SyntheticReader, CanBeLearntAcrossSets) {
  const auto set = [](int first, double noise) {
    return open(Options()
                    .with("reader", "synthetic")
                    .with("samples", 300)
                    .with("first", first)
                    .with("noise", noise)
                    .with("classes", 5));
  };
  std::vector<std::uint32_t> all(300);
  for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  const auto train = read(*set(0, 1.0), all), test = read(*set(300, 1.0), all);
  const auto x = values<float>(train[0]), tx = values<float>(test[0]);
  const auto y = values<std::int32_t>(train[1]), ty = values<std::int32_t>(test[1]);
  std::vector<std::vector<double>> mean(5, std::vector<double>(784));
  std::vector<int> count(5);
  double squares = 0, sum = 0;
  for (std::size_t i = 0; i < 300; ++i) {
    ++count.at(static_cast<std::size_t>(y[i]));
    for (std::size_t j = 0; j < 784; ++j) {
      mean[static_cast<std::size_t>(y[i])][j] += x[i * 784 + j];
      sum += x[i * 784 + j];
      squares += static_cast<double>(x[i * 784 + j]) * x[i * 784 + j];
    }
  }
  EXPECT_THAT(count, ::testing::Each(::testing::Gt(30)));
  EXPECT_NEAR(squares / (300 * 784) - std::pow(sum / (300 * 784), 2), 2.0, 0.15) << "pattern 1 + noise 1";
  int right = 0;
  for (std::size_t i = 0; i < 300; ++i) {
    std::vector<double> match(5);
    for (std::size_t c = 0; c < 5; ++c) {
      for (std::size_t j = 0; j < 784; ++j) match[c] += tx[i * 784 + j] * mean[c][j] / count[c];
    }
    right += std::max_element(match.begin(), match.end()) - match.begin() == ty[i] ? 1 : 0;
  }
  EXPECT_GT(right, 290);
  EXPECT_NE(train[0], test[0]);
}

TEST(SyntheticReader, AnotherSeedIsAnotherTaskAndNoNoiseIsThePattern) {
  const auto make = [](int seed, double noise) {
    return open(Options()
                    .with("reader", "synthetic")
                    .with("samples", 50)
                    .with("seed", seed)
                    .with("noise", noise)
                    .with("classes", 2));
  };
  EXPECT_EQ(read(*make(3, 1.0), {4, 5}), read(*make(3, 1.0), {4, 5}));
  EXPECT_NE(read(*make(3, 1.0), {4, 5}), read(*make(4, 1.0), {4, 5}));
  const auto clean = make(3, 0.0);
  for (std::uint32_t i = 1; i < 50; ++i) {
    const auto a = read(*clean, {0}), b = read(*clean, {i});
    EXPECT_EQ(a[0] == b[0], a[1] == b[1]) << i;
  }
}

}  // namespace
}  // namespace cohort
