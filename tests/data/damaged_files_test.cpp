// Damaged data files: one clear Error that names the file, whatever the damage; never a crash, a hang or wrong data. These
// bodies run under AddressSanitizer as well.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cohort/data/reader.hpp"
#include "data/files.hpp"
#include "hdf5/file.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string idx_error(const TemporaryFolder& folder, const std::string& images, const std::string& labels) {
  write_bytes(folder.file("images"), images);
  write_bytes(folder.file("labels"), labels);
  Options options = Options().with("images", folder.file("images")).with("labels", folder.file("labels"));
  return error_of([&] { static_cast<void>(open_reader(options.section())); });
}

std::string csv_error(const TemporaryFolder& folder, const std::string& text, Options options = {}) {
  write_bytes(folder.file("s.csv"), text);
  options.with("reader", "csv").with("file", folder.file("s.csv"));
  const std::string error = error_of([&] { static_cast<void>(open_reader(options.section())); });
  return error.starts_with(folder.path().string()) ? error.substr(folder.path().string().size() + 1) : error;
}

TEST(DamagedIdx, CutAtEveryLength) {
  const TemporaryFolder folder;
  const std::string images = idx_images(12), labels = idx_labels(12);
  ASSERT_EQ(idx_error(folder, images, labels), "");
  for (std::size_t length = 0; length < images.size(); ++length) {
    EXPECT_THAT(idx_error(folder, images.substr(0, length), labels), HasSubstr("/images: at offset ")) << length;
  }
  for (std::size_t length = 0; length < labels.size(); ++length) {
    EXPECT_THAT(idx_error(folder, images, labels.substr(0, length)), HasSubstr("/labels: at offset ")) << length;
  }
}

TEST(DamagedIdx, GzipCutAtEveryLengthAndEveryBitFlipped) {
  const TemporaryFolder folder;
  const std::string images = gzip(idx_images(12)), labels = gzip(idx_labels(12));
  ASSERT_EQ(idx_error(folder, images, labels), "");
  for (std::size_t length = 0; length < images.size(); ++length) {
    EXPECT_THAT(idx_error(folder, images.substr(0, length), labels), HasSubstr("/images: at offset ")) << length;
  }
  int unnoticed = 0;
  for (std::size_t bit = 0; bit < labels.size() * 8; ++bit) {
    std::string changed = labels;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    const std::string error = idx_error(folder, images, changed);
    unnoticed += error.empty() ? 1 : 0;
    EXPECT_THAT(error, AnyOf("", HasSubstr("/labels: "))) << "bit " << bit;
  }
  // Only the header's remarks (time, system, level, "is text") and the last byte's unused bits say nothing of the contents.
  EXPECT_LE(unnoticed, 8 * 6 + 1 + 7);
}

TEST(DamagedIdx, EveryByteOfTheHeader) {
  const TemporaryFolder folder;
  const std::string images = idx_images(12), labels = idx_labels(12);
  for (std::size_t at = 0; at < 16; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = images;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      EXPECT_THAT(idx_error(folder, changed, labels), HasSubstr("/images: ")) << "byte " << at << " bit " << bit;
      if (at >= 8) continue;
      changed = labels;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      EXPECT_THAT(idx_error(folder, images, changed), HasSubstr("/labels: ")) << "byte " << at << " bit " << bit;
    }
  }
}

TEST(DamagedIdx, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const std::string images = idx_images(12), labels = idx_labels(12);
  EXPECT_THAT(idx_error(folder, "PNG" + images, labels), HasSubstr("images: at offset 0: not an IDX file"));
  EXPECT_THAT(idx_error(folder, labels, labels),
              HasSubstr("images: at offset 3: 1 dimensions, expected 2 to 4 in a file of images"));
  EXPECT_THAT(idx_error(folder, images, images),
              HasSubstr("labels: at offset 3: 3 dimensions, expected 1 in a file of labels"));
  EXPECT_THAT(idx_error(folder, images, idx_labels(11)),
              AllOf(HasSubstr("images: has 12 images, but "), HasSubstr("labels has 11 labels")));
  EXPECT_THAT(idx_error(folder, images + "x", labels),
              HasSubstr("images: at offset 88: the file goes on where its end is expected"));
  EXPECT_THAT(idx_error(folder, images, gzip(labels) + "garbage"),
              HasSubstr("labels: at offset 20 (decompressed): the compressed data is damaged"));
  EXPECT_THAT(idx_error(folder, images, idx_bytes({12}, {0, 1, 2, 3, 4, 10, 6, 7, 8, 9, 0, 1})),
              HasSubstr("labels: at offset 13: label 10 of sample 5, expected below classes = 10"));
  EXPECT_THAT(idx_error(folder, idx_bytes({0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}, {}), labels),
              HasSubstr("impossible dimensions"));
  EXPECT_THAT(idx_error(folder, gzip(idx_bytes({4'000'000'000u, 28, 28}, {1, 2})), labels),
              HasSubstr("the file cannot hold more than"));
  Options absent = Options().with("images", folder.file("no")).with("labels", folder.file("labels"));
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(absent.section())); }), HasSubstr("/no: no such file"));
  Options neither;
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(neither.section())); }),
              HasSubstr("needs the paths images and labels"));
}

TEST(DamagedCsv, NamesLineAndColumn) {
  const TemporaryFolder folder;
  EXPECT_EQ(csv_error(folder, "a,label\n1,2\n"), "");
  EXPECT_EQ(csv_error(folder, "a,label\n1,2\n12,x\n"), "s.csv:3:4: column 'label': 'x' is not a finite number; where labels are texts, give label_kind = \"name\"");
  EXPECT_EQ(csv_error(folder, "a,label\n\n1,2\n,3\n"), "s.csv:4:1: column 'a': '' is not a finite number");
  EXPECT_EQ(csv_error(folder, "a,label\n1,2\nnan,3\n"), "s.csv:3:1: column 'a': 'nan' is not a finite number");
  EXPECT_EQ(csv_error(folder, "a,label\n1,2\n1e999,3\n"), "s.csv:3:1: column 'a': '1e999' is not a finite number");
  EXPECT_EQ(csv_error(folder, "a,label\n1,2\n5\n"), "s.csv:3:1: the line ends after 1 cells, the header has 2 columns");
  EXPECT_EQ(csv_error(folder, "a,label\n1,2\n5,6,7\n"), "s.csv:3:5: more cells than the 2 columns of the header");
  EXPECT_EQ(csv_error(folder, "a,label\n\"1,2\n"), "s.csv:2:1: the quote that opens here is never closed");
  EXPECT_EQ(csv_error(folder, "a,label\n\"1\n\n2\",3\n"), "s.csv:2:1: column 'a': '1\\n\\n2' is not a finite number");
  EXPECT_EQ(csv_error(folder, "\"a\nb\",label\n\n1,2\n3,\"\n\"\n"),
            "s.csv:5:3: column 'label': '\\n' is not a finite number; where labels are texts, give label_kind = \"name\"");
  EXPECT_EQ(csv_error(folder, "a,b,label\n1,\"2\n\",x\n", Options().with("features", {"a"})),
            "s.csv:3:3: column 'label': 'x' is not a finite number; where labels are texts, give label_kind = \"name\"");
  EXPECT_EQ(csv_error(folder, "a,label\n1,2\n" + std::string(50, '7') + "x,3\n"),
            "s.csv:3:1: column 'a': '" + std::string(40, '7') + "…' is not a finite number");
  EXPECT_EQ(csv_error(folder, "a,label\n\"1\"0,2\n"), "s.csv:2:1: text goes on after the closing quote");
  EXPECT_THAT(csv_error(folder, "a,label\n1,2.5\n"),
              StartsWith("s.csv:2:3: column 'label': a class is a whole number from 0 to 2147483647"));
  EXPECT_THAT(csv_error(folder, "a,label\n1,3\n", Options().with("classes", 3)),
              StartsWith("s.csv:2:3: column 'label': a class is a whole number from 0 to 2"));
  EXPECT_EQ(csv_error(folder, "a,a,label\n1,2,3\n"), "s.csv:1:3: column 'a' is there twice");
  EXPECT_EQ(csv_error(folder, "a,b\n1,2\n"), "s.csv: unknown column 'label'. Known: a b");
  EXPECT_THAT(csv_error(folder, ""), HasSubstr("s.csv: is empty"));
  EXPECT_THAT(csv_error(folder, "label\n1\n"), HasSubstr("has no feature columns"));
  EXPECT_THAT(csv_error(folder, "a,b,label\n1,2,0\n", Options().with("shape", {3})),
              HasSubstr("shape [3] for 2 feature columns"));
}

TEST(DamagedCsv, AColumnWithoutANameIsNoFeature) {
  const TemporaryFolder folder;
  for (const std::string name : {"", "\"\"", "Unnamed: 0"}) {
    EXPECT_THAT(csv_error(folder, name + ",a,label\n0,1,2\n"),
                AllOf(StartsWith("s.csv:1:"), HasSubstr("the first column has no name, which is how pandas writes its index"),
                      HasSubstr("index=False"), HasSubstr("features = [...]")));
    EXPECT_EQ(csv_error(folder, name + ",a,label\n0,1,2\n", Options().with("features", {"a"})), "");
  }
  EXPECT_THAT(csv_error(folder, "a,label,\n1,2,\n"), AllOf(StartsWith("s.csv:1:"), HasSubstr("column 3 has no name")));
  EXPECT_EQ(csv_error(folder, "a,label,,\n1,2,,\n", Options().with("features", {"a"})), "");
}

TEST(DamagedCsv, LabelsThatAreNamesAreChecked) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& text, Options options = {}) {
    return csv_error(folder, text, options.with("label_kind", "name"));
  };
  EXPECT_EQ(error("a,label\n1,cat\n2,dog\n"), "");
  EXPECT_EQ(error("a,label\n1,cat\n2,\n"),
            "s.csv:3:3: column 'label': '' is no name of a class: it is empty, or holds a line end or a zero byte");
  EXPECT_THAT(error("a,label\n1,\"c\nt\"\n"), StartsWith("s.csv:2:3: column 'label': 'c\\nt' is no name of a class"));
  EXPECT_EQ(error("a,label\n1,cat\n2,cow\n", Options().with("names", {"cat", "dog"})),
            "s.csv:3:3: column 'label': unknown class 'cow', did you mean 'cat'? Known: cat dog");
  EXPECT_THAT(error("a,label\n1,cat\n", Options().with("names", {"cat", "cat"})), HasSubstr("class 'cat' is listed twice"));
  EXPECT_THAT(error("a,label\n1,a\n2,b\n3,c\n", Options().with("classes", 2)),
              HasSubstr("column 'label' has 3 classes, more than classes = 2"));
  EXPECT_THAT(csv_error(folder, "a,label\n1,0\n", Options().with("names", {"cat"})),
              HasSubstr("data.names: are those of label_kind = \"name\""));
}

/// A header is read in time that grows with its length: with its square it would take a quarter of an hour.
TEST(DamagedCsv, ManyColumns) {
  const TemporaryFolder folder;
  constexpr int kColumns = COHORT_BRIEF ? 20'000 : 400'000;
  std::string header, line;
  for (int i = 0; i < kColumns; ++i) {
    header += "c" + std::to_string(i) + ",";
    line += "1,";
  }
  EXPECT_EQ(csv_error(folder, header + "label\n" + line + "0\n"), "");
  EXPECT_THAT(csv_error(folder, header + "c7\n"), HasSubstr("column 'c7' is there twice"));
  EXPECT_THAT(csv_error(folder, header + "lable\n"),
              AllOf(HasSubstr("unknown column 'label', did you mean 'lable'? Known: c0 c1 "), HasSubstr(" and " + std::to_string(kColumns - 199) + " more")));
}

TEST(DamagedCsv, AnyBytesAreAnErrorOrData) {
  const TemporaryFolder folder;
  const std::string good = "aa,\"label\"\n1.5,2\n\"-3\",1\n";
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const char byte : std::string_view("\0\t\n\r \"',;-.0ex\x7f\x80\xff", 17)) {
      std::string changed = good;
      changed[at] = byte;
      const std::string error = csv_error(folder, changed);
      ASSERT_THAT(error, AnyOf("", StartsWith("s.csv:"))) << at << " " << static_cast<int>(byte);
    }
    const std::string error = csv_error(folder, good.substr(0, at));
    ASSERT_THAT(error, AnyOf("", StartsWith("s.csv:"))) << at;
  }
  const std::string packed = gzip(good);
  for (std::size_t length = 1; length < packed.size(); ++length) {
    EXPECT_THAT(csv_error(folder, packed.substr(0, length)), StartsWith("s.csv:")) << length;
  }
}

TEST(DamagedHdf5Set, CountsThatDisagreeAndNoFields) {
  const TemporaryFolder folder;
  hdf5::File out = hdf5::File::create(folder.file("s.h5"));
  out.write("x", Tensor::zeros({5, 2}));
  out.write("y", Tensor::zeros({4}));
  out.close();
  Options options = Options().with("reader", "hdf5").with("file", folder.file("s.h5"));
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(options.section())); }),
              HasSubstr("s.h5: '/y': has 4 samples, but '/x' has 5"));
  hdf5::File::create(folder.file("empty.h5")).close();
  Options empty = Options().with("reader", "hdf5").with("file", folder.file("empty.h5"));
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(empty.section())); }),
              HasSubstr("empty.h5: no data sets in its root group"));
}

TEST(DamagedHdf5Set, CutAtManyLengths) {
  const TemporaryFolder folder;
  hdf5::File out = hdf5::File::create(folder.file("s.h5"));
  out.write("x", Tensor::zeros({50, 2}));
  out.close();
  const std::string bytes = read_bytes(folder.file("s.h5"));
  for (std::size_t length = 0; length < bytes.size(); length += 7) {
    write_bytes(folder.file("cut.h5"), bytes.substr(0, length));
    Options options = Options().with("reader", "hdf5").with("file", folder.file("cut.h5"));
    EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(options.section())); }),
                HasSubstr("cut.h5: not an HDF5 file that can be read"))
        << length;
  }
}

/// 80 KB that stand for 81 MB.
TEST(SizeOfInput, CompressedFilesMayNotComeToAnySize) {
  const TemporaryFolder folder;
  const std::string small = gzip(idx_bytes({1, 9000, 9000}, std::vector<unsigned char>(81'000'000)));
  ASSERT_LT(small.size(), 100'000u);
  write_bytes(folder.file("small"), small);
  write_bytes(folder.file("labels"), idx_labels(1));
  const std::string stored = "for which " + std::to_string(small.size()) + " are stored: more than data.most_expansion = 200 times";
  const auto idx = [&] { return Options().with("images", folder.file("small")).with("labels", folder.file("labels")); };
  const auto text = [&] { return Options().with("reader", "text").with("files", {folder.file("small").c_str()}); };
  const auto csv = Options().with("reader", "csv").with("file", folder.file("small"));
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(idx().section())); }),
              AllOf(HasSubstr("/small: dimensions [1, 9000, 9000] ask for 81000016 bytes"), HasSubstr(stored)));
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(text().section())); }),
              AllOf(HasSubstr("/small: decompresses to at least 6"), HasSubstr(stored)));
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(csv.section())); }), HasSubstr(stored));
  EXPECT_EQ(open_reader(idx().with("most_expansion", 0).section())->size(), 1);
  EXPECT_EQ(open_reader(text().with("most_expansion", 1100).section())->size(), (81'000'016 - 129) / 128 + 1);
}

}  // namespace
}  // namespace cohort
