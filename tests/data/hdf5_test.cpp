#include "hdf5/file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "hdf5/handle.hpp"
#include "support/temporary_folder.hpp"

/// HDF5 1.10 itself leaks when it refuses a damaged file. (What this project leaves open is counted below instead.)
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

namespace cohort::hdf5 {
namespace {

using cohort::testing::error_of;
using cohort::testing::read_bytes;
using cohort::testing::TemporaryFolder;
using cohort::testing::write_bytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Hdf5File, EveryElementTypeComesBackAsItWas) {
  const TemporaryFolder folder;
  const std::string path = folder.file("types.h5");
  const std::vector<float> values = {0.f, 1.f, -2.5f, 100.f, 0.f, 7.f};
  File out = File::create(path);
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16, DType::int32, DType::int64,
                            DType::uint8, DType::boolean}) {
    dispatch(dtype, [&]<class T>() {
      Tensor tensor(host(), dtype, {2, 3});
      for (std::size_t i = 0; i < 6; ++i)
        tensor.data<T>()[i] = static_cast<T>(dtype == DType::uint8 ? std::abs(values[i]) : values[i]);
      out.write("/group/" + std::string(name(dtype)), tensor);
    });
  }
  out.close();

  const File in = File::open(path);
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16, DType::int32, DType::int64,
                            DType::uint8, DType::boolean}) {
    SCOPED_TRACE(name(dtype));
    const std::string dataset = "group/" + std::string(name(dtype));
    EXPECT_EQ(in.info(dataset).dtype, dtype);
    EXPECT_EQ(in.info(dataset).shape, (Shape{2, 3}));
    dispatch(dtype, [&]<class T>() {
      Tensor tensor(host(), dtype, {2, 3});
      in.read(dataset, tensor);
      for (std::size_t i = 0; i < 6; ++i) {
        const T expected = static_cast<T>(dtype == DType::uint8 ? std::abs(values[i]) : values[i]);
        EXPECT_EQ(static_cast<float>(tensor.data<T>()[i]), static_cast<float>(expected)) << i;
      }
    });
    if (dtype == DType::boolean) continue;
    std::vector<double> wide(6);   // converted on the way
    in.read(dataset, DType::float64, {2, 3}, wide.data());
    EXPECT_EQ(wide[3], 100.0);
  }
}

TEST(Hdf5File, PaddedRowsScalarsAndEmptyTensors) {
  const TemporaryFolder folder;
  const std::string path = folder.file("shapes.h5");
  Tensor padded(host(), DType::float32, {3, 2}, 5);
  for (int i = 0; i < 15; ++i) {
    if (static_cast<std::size_t>(i) < padded.bytes() / 4) padded.data<float>()[i] = static_cast<float>(i);
  }
  File out = File::create(path);
  out.write("padded", padded);
  out.write("scalar", Tensor::scalar(3.25f));
  out.write("empty", Tensor::zeros({0, 4}));
  out.close();

  const File in = File::open(path);
  std::vector<float> dense(6);
  in.read("padded", DType::float32, {3, 2}, dense.data());
  EXPECT_THAT(dense, ElementsAre(0, 1, 5, 6, 10, 11));
  Tensor wide = Tensor(host(), DType::float32, {3, 2}, 7);
  std::fill_n(wide.data<float>(), 16, -1.f);
  in.read("padded", wide);
  EXPECT_THAT(wide.to_vector<float>(), ElementsAre(0, 1, 5, 6, 10, 11));
  EXPECT_EQ(wide.data<float>()[2], -1.f) << "padding is not written";
  EXPECT_EQ(in.info("scalar").shape, Shape{});
  float one = 0;
  in.read("scalar", DType::float32, {}, &one);
  EXPECT_EQ(one, 3.25f);
  EXPECT_EQ(in.info("empty").shape, (Shape{0, 4}));
  in.read("empty", DType::float32, {0, 4}, nullptr);
}

TEST(Hdf5File, AttributesTextsAndListing) {
  const TemporaryFolder folder;
  const std::string path = folder.file("attributes.h5");
  const std::string text = "[optimizer]\nname = \"sgd\"\n" + std::string(100'000, 'x');
  File out = File::create(path);
  out.write("/a/b/w", Tensor::zeros({2}));
  out.write("/a/v", Tensor::zeros({2}));
  out.write_text("/config", text);
  out.write_text("/none", "");
  out.set_attribute("/a/b/w", "crc32c", std::uint32_t{0xfedcba98u});
  out.set_attribute("/", "step", std::int64_t{-5'000'000'000});
  out.set_attribute("/", "loss", 0.125);
  out.set_attribute("/", "loss", 0.25);
  out.set_attribute("/a", "name", std::string("größe"));
  out.set_attribute("/a", "nothing", std::string());
  out.close();

  const File in = File::open(path);
  EXPECT_THAT(in.datasets(), ElementsAre("/a/b/w", "/a/v", "/config", "/none"));
  EXPECT_THAT(in.datasets("/a"), ElementsAre("/a/b/w", "/a/v"));
  EXPECT_EQ(in.read_text("/config"), text);
  EXPECT_EQ(in.read_text("/none"), "");
  EXPECT_EQ(in.attribute<std::uint32_t>("/a/b/w", "crc32c"), 0xfedcba98u);
  EXPECT_EQ(in.attribute<std::int64_t>("/", "step"), -5'000'000'000);
  EXPECT_EQ(in.attribute<double>("/", "loss"), 0.25);
  EXPECT_EQ(in.attribute<std::string>("/a", "name"), "größe");
  EXPECT_EQ(in.attribute<std::string>("/a", "nothing"), "");
  EXPECT_TRUE(in.has_attribute("/a", "name"));
  EXPECT_FALSE(in.has_attribute("/a", "size"));
  EXPECT_TRUE(in.has("/a/b"));
  EXPECT_FALSE(in.has("/x/y/z"));
}

TEST(Hdf5File, RowsInAnyOrder) {
  const TemporaryFolder folder;
  const std::string path = folder.file("rows.h5");
  std::vector<float> values(5 * 2 * 3);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  File out = File::create(path);
  out.write("x", DType::float32, {5, 2, 3}, values.data());
  out.close();
  const File in = File::open(path);
  const std::vector<std::uint32_t> rows = {3, 4, 0, 0, 2};
  std::vector<double> got(rows.size() * 6);
  in.read_rows("x", DType::float64, rows, got.data());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < 6; ++j) EXPECT_EQ(got[i * 6 + j], static_cast<double>(rows[i] * 6 + j));
  }
  in.read_rows("x", DType::float32, {}, nullptr);
  const std::vector<std::uint32_t> beyond = {4, 5};
  EXPECT_THAT(error_of([&] { in.read_rows("x", DType::float64, beyond, got.data()); }),
              HasSubstr("rows.h5: '/x': row 5 of 5"));
}

TEST(Hdf5File, VirtualDataSetsShowWhatLiesInOtherFiles) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{7}, Shape{3, 5}, Shape{2, 1, 3, 2}, Shape{1, 4, 3}, Shape{2, 3, 4}}) {
    SCOPED_TRACE(shape.text());
    const std::int64_t n = shape.elements();
    std::vector<float> values(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
    for (std::int64_t a = 0; a <= n; ++a) {
      for (std::int64_t b = a; b <= n; b += 7) {          // three parts, some of them empty
        const TemporaryFolder folder;
        const std::int64_t cuts[] = {0, a, b, n};
        std::vector<Source> sources;
        File whole = File::create(folder.file("whole.h5"));
        for (std::size_t i = 0; i < 3; ++i) {
          sources.push_back({"100%b-" + std::to_string(i) + ".h5", cuts[i], cuts[i + 1] - cuts[i]});
          File part = File::create(folder.file(sources.back().file));
          part.write("group/50%", DType::float32, {sources.back().n}, values.data() + cuts[i]);
          part.close();
        }
        whole.write_virtual("group/50%", DType::float32, shape, sources);
        whole.write("own", DType::float32, shape, values.data());
        whole.close();
        if (a == 0) {                                     // all moved together
          std::filesystem::create_directory(folder.path() / "moved");
          for (const char* name : {"whole.h5", "100%b-0.h5", "100%b-1.h5", "100%b-2.h5"}) {
            std::filesystem::rename(folder.file(name), folder.path() / "moved" / name);
          }
        }
        const File in = File::open(a == 0 ? folder.path() / "moved" / "whole.h5" : folder.path() / "whole.h5");
        std::vector<float> read(values.size());
        in.read("group/50%", DType::float32, shape, read.data());
        ASSERT_EQ(read, values) << a << ", " << b;
        EXPECT_TRUE(in.is_virtual("group/50%"));
        EXPECT_FALSE(in.is_virtual("own"));
      }
    }
  }
}

TEST(Hdf5File, ErrorsNameFileAndDataSet) {
  const TemporaryFolder folder;
  const std::string path = folder.file("named.h5");
  File out = File::create(path);
  out.write("/p/w", Tensor::zeros({2, 3}));
  out.set_attribute("/", "kind", std::string("text"));
  out.close();
  const File in = File::open(path);
  float buffer[6];
  EXPECT_THAT(error_of([&] { in.read("/p/v", DType::float32, {2}, buffer); }),
              HasSubstr("named.h5: '/p/v': no such data set"));
  EXPECT_THAT(error_of([&] { in.read("/q/v", DType::float32, {2}, buffer); }),
              HasSubstr("named.h5: '/q/v': no such data set"));
  EXPECT_THAT(error_of([&] { in.read("/p/w", DType::float32, {3, 2}, buffer); }),
              HasSubstr("named.h5: '/p/w': has shape [2, 3], asked for as [3, 2]"));
  EXPECT_THAT(error_of([&] { static_cast<void>(in.attribute<double>("/", "kind")); }),
              HasSubstr("'kind': is not one floating-point number"));
  EXPECT_THAT(error_of([&] { static_cast<void>(in.attribute<std::int64_t>("/p", "step")); }),
              HasSubstr("'/p': has no attribute 'step'"));
  EXPECT_THAT(error_of([&] { static_cast<void>(in.read_text("/p/w")); }), HasSubstr("named.h5: '/p/w': is not one text"));
  EXPECT_THAT(error_of([&] { static_cast<void>(File::open(folder.file("absent.h5"))); }),
              HasSubstr("absent.h5: no such file"));
  EXPECT_THAT(error_of([&] { static_cast<void>(File::create(folder.file("no/folder.h5"))); }),
              HasSubstr("folder.h5: cannot create"));
}

TEST(Hdf5File, ErrorsOfOtherThreadsAreQuietToo) {
  const TemporaryFolder folder;
  write_bytes(folder.file("bad.h5"), "not HDF5");
  ::testing::internal::CaptureStderr();
  std::string text;
  std::thread([&] { text = error_of([&] { static_cast<void>(File::open(folder.file("bad.h5"))); }); }).join();
  EXPECT_THAT(text, HasSubstr("bad.h5: not an HDF5 file"));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(Hdf5File, AReasonIsOneLineWithoutTimesAndAddresses) {
  // A regular file whose every read fails: what the library says of it has a line break, the time and an address.
  const std::string text = error_of([&] { static_cast<void>(File::open("/proc/self/mem")); });
  EXPECT_THAT(text, AllOf(HasSubstr("/proc/self/mem: not an HDF5 file that can be read: "), HasSubstr("Input/output error")));
  for (const char* useless : {"\n", "0x", "time =", "descriptor ="}) EXPECT_THAT(text, Not(HasSubstr(useless)));
}

/// Reads all there is; what a damaged file may do is one Error that names it, or (damage to contents) nothing.
void read_all(const std::string& path) {
  const File in = File::open(path);
  for (const std::string& dataset : in.datasets()) {
    const DatasetInfo info = in.info(dataset);
    ASSERT_LT(info.shape.elements(), 1 << 20);
    std::vector<double> values(static_cast<std::size_t>(info.shape.elements()));
    in.read(dataset, DType::float64, info.shape, values.data());
  }
  static_cast<void>(in.attribute<std::int64_t>("/", "step"));
}

TEST(Hdf5File, ATruncatedOrDamagedFileIsOneClearError) {
  const TemporaryFolder folder;
  const std::string good = folder.file("good.h5"), bad = folder.file("bad.h5");
  File out = File::create(good);
  out.write("/p/w", Tensor::zeros({7, 3}));
  out.write("/p/v", Tensor::zeros({5}));
  out.set_attribute("/", "step", std::int64_t{7});
  out.close();
  read_all(good);
  const std::string bytes = read_bytes(good);
  ASSERT_LT(bytes.size(), 10'000u);
  for (std::size_t length = 0; length < bytes.size(); length += length < 64 ? 1 : 29) {
    write_bytes(bad, std::string_view(bytes).substr(0, length));
    EXPECT_THAT(error_of([&] { read_all(bad); }), HasSubstr("bad.h5")) << "cut to " << length << " of " << bytes.size();
  }
  std::size_t noticed = 0;
  for (std::size_t at = 0; at < bytes.size(); at += at < 256 ? 1 : 5) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ (1 << (at % 8)));
    write_bytes(bad, changed);
    const std::string text = error_of([&] { read_all(bad); });
    if (!text.empty()) {
      ++noticed;
      EXPECT_THAT(text, HasSubstr("bad.h5")) << "byte " << at;
    }
  }
  EXPECT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0) << "handles are given back after errors";
  EXPECT_GT(noticed, 300u) << "of " << bytes.size() << " bytes, 104 of them contents: the structure has checksums";
}

}  // namespace
}  // namespace cohort::hdf5
