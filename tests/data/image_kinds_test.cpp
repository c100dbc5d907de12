// Images of every kind, most of them written by Pillow or bit by bit, are read as Pillow reads them: as what is stored.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <turbojpeg.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <random>

#include "cohort/data/reader.hpp"
#include "data/files.hpp"
#include "support/python.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
namespace fs = std::filesystem;

/// CMYK pixels as Photoshop stores them, as luminance and chroma. (Pillow reads such files but writes none.)
std::string ycck_jpeg() {
  const int width = 33, height = 21;
  std::vector<unsigned char> pixels;
  for (int i = 0; i < width * height * 4; ++i) {
    pixels.push_back(static_cast<unsigned char>(128 + 100 * std::sin(i % 4 + i / 4 % width * 0.2 + i * 1e-3)));
  }
  const tjhandle jpeg = tjInitCompress();
  unsigned char* data = nullptr;
  unsigned long size = 0;
  const int status = tjCompress2(jpeg, pixels.data(), width, 0, height, TJPF_CMYK, &data, &size, TJSAMP_420, 90, 0);
  check(status == 0, Code::internal, tjGetErrorStr2(jpeg));
  std::string bytes(reinterpret_cast<char*>(data), size);
  tjFree(data);
  tjDestroy(jpeg);
  return bytes;
}

class ImageKinds : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    fs::create_directories(folder_->path() / "jpeg-YCCK/images");
    write_bytes(folder_->file("jpeg-YCCK/images/jpeg-YCCK.jpg"), ycck_jpeg());
    python_ = run_python(COHORT_PILLOW_IMAGES " " + folder_->path().string());
  }
  static void TearDownTestSuite() { folder_.reset(); }
  void SetUp() override { ASSERT_EQ(python_.status, 0) << python_.output << "(Debian package python3-pil)"; }

  static std::vector<float> read(const std::string& name, int channels, Options options) {
    const auto reader = open_reader(options.with("reader", "image_folder")
                                        .with("directory", (folder_->path() / name).string())
                                        .with("scale", 1.0)
                                        .with("channels", channels)
                                        .section());
    std::vector<float> image(static_cast<std::size_t>(reader->fields()[0].shape.elements()));
    std::int32_t label = 0;
    void* const buffers[] = {image.data(), &label};
    reader->read(std::vector<std::uint32_t>{0}, buffers);
    return image;
  }
  template <class T>
  static std::vector<double> expected(const std::string& name, const std::string& file) {
    const std::string bytes = read_bytes((folder_->path() / name / file).string());
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return {values.begin(), values.end()};
  }
  static void compare(const std::vector<float>& image, const std::vector<double>& expected, double tolerance) {
    ASSERT_EQ(image.size(), expected.size());
    double most = 0;
    std::size_t at = 0;
    for (std::size_t i = 0; i < image.size(); ++i) {
      const double difference = std::fabs(static_cast<double>(image[i]) - expected[i]);
      if (difference > most) most = difference, at = i;
    }
    EXPECT_LE(most, tolerance) << "at value " << at << ": " << image[at] << ", expected " << expected[at];
  }
  /// Every image, as `use` does it.
  template <class Use>
  static void for_each(Use use) {
    int images = 0;
    for (const auto& entry : fs::directory_iterator(folder_->path())) {
      const std::string name = entry.path().filename().string();
      SCOPED_TRACE(name);
      use(name);
      ++images;
    }
    EXPECT_GT(images, 100);
  }

  static std::unique_ptr<TemporaryFolder> folder_;
  static PythonRun python_;
};
std::unique_ptr<TemporaryFolder> ImageKinds::folder_;
PythonRun ImageKinds::python_;

TEST_F(ImageKinds, AreReadAsPillowReadsThem) {
  for_each([](const std::string& name) {
    compare(read(name, 1, {}), expected<unsigned char>(name, "grey.u8"), 0);
    compare(read(name, 3, {}), expected<unsigned char>(name, "colour.u8"), 0);
  });
}

TEST_F(ImageKinds, KeepTheirFullDepthOnRequest) {
  for_each([](const std::string& name) {
    compare(read(name, 1, Options().with("depth", "full")), expected<double>(name, "grey.f64"), 1e-4);
    compare(read(name, 3, Options().with("depth", "full")), expected<double>(name, "colour.f64"), 1e-4);
  });
}

TEST_F(ImageKinds, GetTheirGammaAppliedOnRequest) {
  for_each([](const std::string& name) {
    compare(read(name, 3, Options().with("apply_gamma", true)), expected<double>(name, "gamma.f64"), 1);
    const auto full = read(name, 3, Options().with("apply_gamma", true).with("depth", "full"));
    compare(full, expected<double>(name, "gamma.f64"), 0.51);
  });
}

/// Gives every chunk of a PNG the checksum of what it holds now, so that damage gets past the first check.
void repair_checksums(std::string& png) {
  const auto number_at = [&](std::size_t at) {
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < 4; ++i) number = number * 256 + static_cast<unsigned char>(png[at + i]);
    return number;
  };
  for (std::size_t at = 8; at + 12 <= png.size();) {
    const std::size_t length = number_at(at), end = at + 8 + length;
    if (length > png.size() || end + 4 > png.size()) return;
    const auto* what = reinterpret_cast<const Bytef*>(png.data() + at + 4);
    const auto crc = static_cast<std::uint32_t>(crc32(0, what, static_cast<uInt>(length + 4)));
    for (std::size_t i = 0; i < 4; ++i) png[end + i] = static_cast<char>(crc >> (24 - 8 * i) & 0xff);
    at = end + 4;
  }
}

TEST_F(ImageKinds, AreAnErrorThatNamesTheFileOrAnImageHoweverDamaged) {
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  int refused = 0;
  for_each([&](const std::string& name) {
    const fs::path path = fs::directory_iterator(folder_->path() / name / "images")->path();
    const std::string whole = read_bytes(path.string());
    for (int i = 0; i < 12; ++i) {
      std::string changed = whole;
      if (i < 3) changed.resize(random() % whole.size());
      for (int flips = i < 3 ? 0 : 1 + i % 3; flips > 0; --flips) {
        char& byte = changed[random() % changed.size()];
        byte = static_cast<char>(byte ^ (1 << random() % 8));
      }
      if (i >= 6 && name.find("jpeg") == std::string::npos) repair_checksums(changed);
      write_bytes(path.string(), changed);
      const std::string error = error_of(
          [&] { read(name, i % 2 == 0 ? 1 : 3, Options().with("apply_gamma", true).with("depth", "full")); });
      EXPECT_TRUE(error.empty() || error.find(path.string() + ": ") != std::string::npos) << error;
      refused += error.empty() ? 0 : 1;
    }
    write_bytes(path.string(), whole);
  });
  EXPECT_GT(refused, 400);
}

}  // namespace
}  // namespace cohort
