// Folders of images that the test writes with the libraries themselves; PNG keeps every pixel, so those are compared exactly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <turbojpeg.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "cohort/data/reader.hpp"
#include "data/decode_image.hpp"
#include "data/files.hpp"
#include "data/image_files.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;

std::string jpeg_of(int width, int height, const Pixels& rgb) {
  const tjhandle jpeg = tjInitCompress();
  unsigned char* data = nullptr;
  unsigned long size = 0;
  EXPECT_EQ(tjCompress2(jpeg, rgb.data(), width, 0, height, TJPF_RGB, &data, &size, TJSAMP_444, 100, TJFLAG_ACCURATEDCT), 0);
  std::string bytes(reinterpret_cast<char*>(data), size);
  tjFree(data);
  tjDestroy(jpeg);
  return bytes;
}

/// Red from left to right, green from top to bottom.
Pixels slopes(int width, int height) {
  Pixels pixels;
  for (int i = 0; i < height; ++i) {
    for (int j = 0; j < width; ++j) {
      for (const int value : {j * 255 / width, i * 255 / height, 100}) pixels.push_back(static_cast<unsigned char>(value));
    }
  }
  return pixels;
}

class ImageFolder : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
  }
  [[nodiscard]] std::shared_ptr<const Reader> open(Options options = {}) const {
    return open_reader(options.with("reader", "image_folder").with("directory", folder_.path().string()).section());
  }
  struct Read {
    std::vector<float> image;
    std::vector<std::int32_t> labels;
  };
  static Read read(const Reader& reader, const std::vector<std::uint32_t>& samples) {
    Read r{std::vector<float>(samples.size() * static_cast<std::size_t>(reader.fields()[0].shape.elements())),
           std::vector<std::int32_t>(samples.size())};
    void* const buffers[] = {r.image.data(), r.labels.data()};
    reader.read(samples, buffers);
    return r;
  }

  TemporaryFolder folder_;
};

TEST_F(ImageFolder, ClassesAndFilesComeByName) {
  put("dog/b.png", png_of(2, 1, PNG_FORMAT_GRAY, {0, 51}));
  put("dog/a.PNG", png_of(2, 1, PNG_FORMAT_GRAY, {102, 153}));
  put("cat/only.png", png_of(2, 1, PNG_FORMAT_GRAY, {204, 255}));
  put("cat/notes.txt", "no image");
  const auto reader = open(Options().with("channels", 1).with("mean", 0.5).with("std", 0.5));
  EXPECT_EQ(reader->size(), 3);
  EXPECT_EQ(reader->fields()[0].shape, (Shape{1, 2, 1}));
  const Read r = read(*reader, {2, 0, 1});
  EXPECT_THAT(r.labels, ElementsAre(1, 0, 1));
  const auto near = [](float x) { return FloatNear(x, 1e-6f); };
  EXPECT_THAT(r.image, ElementsAre(near(-1), near(-0.6f), near(0.6f), near(1), near(-0.2f), near(0.2f)));
}

TEST_F(ImageFolder, GreyBecomesColourAndColourGreyAndTransparencyIsLeftOut) {
  put("a/1.png", png_of(1, 1, PNG_FORMAT_GRAY, {77}));
  put("a/2.png", png_of(1, 1, PNG_FORMAT_RGBA, {10, 20, 30, 255}));
  put("a/3.png", png_of(1, 1, PNG_FORMAT_RGBA, {10, 20, 30, 0}));
  put("a/4.png", png_of(1, 1, PNG_FORMAT_RGB, {90, 90, 90}));
  const Options raw = Options().with("scale", 1.0);
  EXPECT_THAT(read(*open(Options(raw).with("channels", 3)), {0, 1, 2}).image,
              ElementsAre(77, 77, 77, 10, 20, 30, 10, 20, 30));
  EXPECT_THAT(read(*open(Options().with("scale", 1.0).with("channels", 1)), {0, 3}).image, ElementsAre(77, 90));
}

TEST_F(ImageFolder, JpegIsReadAndLargeImagesShrinkWithoutAliasing) {
  put("a/slopes.jpg", jpeg_of(64, 48, slopes(64, 48)));
  const auto whole = read(*open(Options().with("scale", 1.0)), {0});
  const Pixels expected = slopes(64, 48);
  ASSERT_EQ(whole.image.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(whole.image[i], expected[i], 6) << i;
  // Stripes of one pixel are an even grey when they shrink; picking every other pixel would give black or white.
  Pixels stripes;
  for (int i = 0; i < 16 * 16; ++i) stripes.push_back(i % 2 == 0 ? 0 : 200);
  put("a/slopes.jpg", png_of(16, 16, PNG_FORMAT_GRAY, stripes));      // the first bytes count, not the name
  const auto small = read(*open(Options().with("scale", 1.0).with("channels", 1).with("height", 4).with("width", 4)), {0});
  for (std::size_t i = 0; i < 16; ++i) EXPECT_NEAR(small.image[i], 100, i % 4 == 0 || i % 4 == 3 ? 12 : 1e-3) << i;
}

/// A PNG's header with another size, and the checksum of that.
std::string claiming(std::string png, std::uint32_t width, std::uint32_t height) {
  const auto put = [&](std::size_t at, std::uint32_t number) {
    for (std::size_t i = 0; i < 4; ++i) png[at + i] = static_cast<char>(number >> (24 - 8 * i));
  };
  put(16, width);
  put(20, height);
  put(29, static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(png.data()) + 12, 17)));
  return png;
}

TEST_F(ImageFolder, LargeImagesAreRefusedBeforeThereIsMemoryForThem) {
  const std::string png = png_of(8, 8, PNG_FORMAT_RGB, slopes(8, 8)), jpeg = jpeg_of(16, 16, slopes(16, 16));
  const auto error = [&](const std::string& bytes, double megapixels) {
    put("a/x.png", bytes);
    return error_of([&] { static_cast<void>(open(Options().with("most_megapixels", megapixels))); });
  };
  EXPECT_EQ(error(png, 64e-6), "");
  EXPECT_THAT(error(png, 63e-6), HasSubstr("/a/x.png: an image of 8 × 8 pixels is larger than data.most_megapixels = 6.3e-05 allows"));
  EXPECT_EQ(error(jpeg, 256e-6), "");
  EXPECT_THAT(error(jpeg, 255e-6), HasSubstr("/a/x.png: an image of 16 × 16 pixels is larger than data.most_megapixels"));
  // Compressed pixels take some space: what is beyond any compression is no size at all.
  EXPECT_THAT(error(claiming(png, 7000, 9000), 64), HasSubstr("/a/x.png: damaged PNG: claims 7000 × 9000 pixels, which its "));
}

/// Row by row: the memory that it takes must not grow with the height of a narrow image. What comes out is the mean of a slope.
TEST(Resample, OfALongNarrowImage) {
  constexpr std::int64_t kHeight = 100'000;
  DecodedImage image{kHeight, 1, 1, {}};
  for (std::int64_t i = 0; i < kHeight; ++i) image.pixels.push_back(static_cast<float>(i) / kHeight);
  std::vector<float> out(4 * 3);
  resample(image, 4, 3, out.data());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double centre = (static_cast<double>(i / 3) + 0.5) / 4;
    EXPECT_NEAR(out[i], i / 3 == 0 || i / 3 == 3 ? std::clamp(centre, 0.15, 0.85) : centre, 0.03) << i;
  }
}

/// Every size to every size, as two sums that are written down plainly.
TEST(Resample, IsTheWeightedMeanOfWhatIsAround) {
  for (const std::int64_t in : {1, 2, 5, 9}) {
    for (const std::int64_t out : {1, 2, 4, 13}) {
      DecodedImage image{in, 3, 2, {}};
      for (std::int64_t i = 0; i < in * 6; ++i) image.pixels.push_back(static_cast<float>(i * i % 17));
      std::vector<float> result(static_cast<std::size_t>(out * 6));
      resample(image, out, 3, result.data());
      const double ratio = static_cast<double>(in) / static_cast<double>(out), reach = std::max(ratio, 1.0);
      for (std::int64_t r = 0; r < out && in != out; ++r) {
        std::vector<double> sum(6);
        double weights = 0;
        for (std::int64_t i = 0; i < in; ++i) {
          const double w = std::max(0.0, 1 - std::fabs(static_cast<double>(i) + 0.5 - (static_cast<double>(r) + 0.5) * ratio) / reach);
          weights += w;
          for (std::size_t k = 0; k < 6; ++k) sum[k] += w * static_cast<double>(image.pixels[static_cast<std::size_t>(i) * 6 + k]);
        }
        for (std::size_t k = 0; k < 6; ++k) {
          EXPECT_NEAR(result[static_cast<std::size_t>(r) * 6 + k], sum[k] / weights, 1e-4) << in << " to " << out << " row " << r;
        }
      }
    }
  }
}

TEST(Resample, DoublingInterpolatesBetweenCentres) {
  const DecodedImage image{1, 2, 1, {0, 100}};
  std::vector<float> out(4);
  resample(image, 1, 4, out.data());
  EXPECT_THAT(out, ElementsAre(0, 25, 75, 100));
}

TEST_F(ImageFolder, DamageOfAnyKindIsOneErrorThatNamesTheFile) {
  const std::string png = png_of(8, 8, PNG_FORMAT_RGB, slopes(8, 8)), jpeg = jpeg_of(16, 16, slopes(16, 16));
  const auto error = [&](const std::string& bytes) {
    put("a/x.png", bytes);
    return error_of([&] { static_cast<void>(read(*open(Options().with("height", 8).with("width", 8)), {0})); });
  };
  ASSERT_EQ(error(png), "");
  ASSERT_EQ(error(jpeg), "");
  for (std::size_t length = 0; length + 12 < png.size(); ++length) {      // without its last chunk, which is empty, it is whole
    EXPECT_THAT(error(png.substr(0, length)), HasSubstr("/a/x.png: ")) << length;
  }
  for (std::size_t length = 0; length < jpeg.size() - 2; ++length) {
    EXPECT_THAT(error(jpeg.substr(0, length)), HasSubstr("/a/x.png: ")) << length;
  }
  for (const std::string& whole : {png, jpeg}) {
    for (std::size_t byte = 0; byte < whole.size(); ++byte) {             // some changes are another, valid image
      std::string changed = whole;
      changed[byte] = static_cast<char>(changed[byte] ^ 0x55);
      EXPECT_THAT(error(changed), AnyOf("", HasSubstr("/a/x.png: "))) << byte;
    }
  }
  EXPECT_THAT(error("GIF89a"), HasSubstr("neither a PNG nor a JPEG"));
}

TEST_F(ImageFolder, WhatIsMissingIsNamed) {
  EXPECT_THAT(error_of([&] { static_cast<void>(open()); }), HasSubstr("has no folders, expected one per class"));
  std::filesystem::create_directories(folder_.path() / "empty");
  EXPECT_THAT(error_of([&] { static_cast<void>(open()); }), HasSubstr("/empty: has no .png, .jpg or .jpeg files"));
  EXPECT_THAT(error_of([&] {
                static_cast<void>(open_reader(Options().with("reader", "image_folder").with("directory", "/no/such/folder").section()));
              }),
              HasSubstr("/no/such/folder: cannot be listed"));
}

}  // namespace
}  // namespace cohort
