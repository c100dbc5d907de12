#include "data/decode_image.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

using Bytes = std::vector<unsigned char>;

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(Code::not_found, path + ": cannot be opened");
  Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) fail(Code::data_loss, path + ": cannot be read");
  return bytes;
}

StoredImage decode(const std::string& path, const PixelLimit& limit) {
  const Bytes bytes = read_file(path);
  constexpr unsigned char kPng[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, kJpeg[] = {0xff, 0xd8, 0xff};
  const auto begins_with = [&](const auto& signature) {
    return bytes.size() >= std::size(signature) && std::equal(std::begin(signature), std::end(signature), bytes.begin());
  };
  if (begins_with(kPng)) return decode_png(path, bytes, limit);
  if (begins_with(kJpeg)) return decode_jpeg(path, bytes, limit);
  fail(Code::data_loss, path + ": neither a PNG nor a JPEG file");
}

/// Samples become what a screen wants for the light that they stand for. libpng would do it, too, but not to the last of
/// 8 bits where there are 16 (measured: 5 off).
void apply_gamma(StoredImage& image) {
  constexpr double kScreen = 2.2;
  const bool wide = image.bytes_per_sample == 2;
  const double most = wide ? 65535 : 255, exponent = 1 / (image.gamma * kScreen);
  std::vector<int> table;
  for (int value = 0; value <= static_cast<int>(most); ++value) {
    table.push_back(static_cast<int>(std::lround(most * std::pow(value / most, exponent))));
  }
  auto& bytes = image.bytes;
  for (std::size_t i = 0; !wide && i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(table[bytes[i]]);
  for (std::size_t i = 0; wide && i < bytes.size(); i += 2) {
    const int value = table[static_cast<std::size_t>(bytes[i] * 256 + bytes[i + 1])];
    bytes[i] = static_cast<unsigned char>(value / 256);
    bytes[i + 1] = static_cast<unsigned char>(value % 256);
  }
}

/// Of 16 bits the upper 8.
void cut_depth(StoredImage& image) {
  for (std::size_t i = 0; i < image.bytes.size(); i += 2) image.bytes[i / 2] = image.bytes[i];
  image.bytes.resize(image.bytes.size() / 2);
  image.bytes_per_sample = 1;
}

using Rgb = std::array<int, 3>;

/// a · b / 255, rounded.
int times(int a, int b) {
  const int x = a * b + 128;
  return ((x >> 8) + x) >> 8;
}

/// As Pillow mixes it. Stored is how little ink there is, as Adobe has it and all follow.
Rgb rgb_of_cmyk(const unsigned char* stored) {
  const int light = stored[3];
  Rgb rgb{};
  for (std::size_t c = 0; c < 3; ++c) rgb[c] = std::clamp(light - times(255 - stored[c], light), 0, 255);
  return rgb;
}

/// ITU-R 601-2 in 16-bit fixed point, to the bit as Pillow has it.
float grey_of(const Rgb& rgb) {
  return static_cast<float>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

/// Calls `put(pixel)` with every pixel of the image, read by `pixel_at(bytes)`.
template <class PixelAt, class Put>
void for_each_pixel(const StoredImage& image, PixelAt pixel_at, Put put) {
  const auto step = static_cast<std::size_t>(image.samples * image.bytes_per_sample);
  for (std::size_t at = 0; at < image.bytes.size(); at += step) put(pixel_at(image.bytes.data() + at));
}

void convert_8_bits(const StoredImage& image, DecodedImage& to) {
  float* out = to.pixels.data();
  const auto put_grey = [&](const Rgb& rgb) { *out++ = grey_of(rgb); };
  const auto put_colour = [&](const Rgb& rgb) { out = std::copy(rgb.begin(), rgb.end(), out); };
  const auto convert = [&](auto pixel_at) {
    if (to.channels == 1) for_each_pixel(image, pixel_at, put_grey);
    else for_each_pixel(image, pixel_at, put_colour);
  };
  if (image.samples == to.channels) std::copy(image.bytes.begin(), image.bytes.end(), out);
  else if (image.samples == 1) convert([](const unsigned char* p) { return Rgb{p[0], p[0], p[0]}; });
  else if (image.samples == 3) convert([](const unsigned char* p) { return Rgb{p[0], p[1], p[2]}; });
  else convert(rgb_of_cmyk);
}

void convert_16_bits(const StoredImage& image, DecodedImage& to) {
  float* out = to.pixels.data();
  const auto value = [](const unsigned char* at) { return (at[0] * 256 + at[1]) / 257.0; };
  const auto three = [&](const unsigned char* p) {
    const std::size_t next = image.samples == 1 ? 0 : 2;
    return std::array{value(p), value(p + next), value(p + 2 * next)};
  };
  for_each_pixel(image, three, [&](const std::array<double, 3>& rgb) {
    if (to.channels == 1) *out++ = static_cast<float>((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2]) / 1000);
    else out = std::transform(rgb.begin(), rgb.end(), out, [](double x) { return static_cast<float>(x); });
  });
}

}  // namespace

StoredImage::StoredImage(const std::string& path, std::int64_t rows, std::int64_t columns, int per_pixel, int per_sample,
                         const PixelLimit& limit)
    : height(rows), width(columns), samples(per_pixel), bytes_per_sample(per_sample) {
  const std::string size = path + ": an image of " + std::to_string(width) + " × " + std::to_string(height) + " pixels";
  check(height >= 1 && width >= 1, Code::data_loss, size);
  if (static_cast<double>(height) * static_cast<double>(width) > limit.megapixels * 1e6) {
    fail(Code::invalid_argument, size + " is larger than " + limit.option + " = " + fmt::format("{}", limit.megapixels) +
                                     " allows; raise it if that is right");
  }
  bytes.resize(static_cast<std::size_t>(height * width * samples * bytes_per_sample));
}

DecodedImage decode_image(const std::string& path, const DecodeOptions& options) {
  StoredImage stored = decode(path, options.limit);
  if (options.apply_gamma && stored.gamma > 0) apply_gamma(stored);
  if (!options.full_depth && stored.bytes_per_sample == 2) cut_depth(stored);
  DecodedImage image{stored.height, stored.width, options.channels, {}};
  image.pixels.resize(static_cast<std::size_t>(image.height * image.width * image.channels));
  if (stored.bytes_per_sample == 1) convert_8_bits(stored, image);
  else convert_16_bits(stored, image);
  return image;
}

}  // namespace cohort
