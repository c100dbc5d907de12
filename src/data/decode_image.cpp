#include "data/decode_image.hpp"

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

constexpr std::int64_t kMostPixels = std::int64_t{1} << 28;   // a damaged header must not ask for the whole memory

using Bytes = std::vector<unsigned char>;

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(Code::not_found, path + ": cannot be opened");
  Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) fail(Code::data_loss, path + ": cannot be read");
  return bytes;
}

DecodedImage make_image(const std::string& path, std::int64_t height, std::int64_t width, std::int64_t channels) {
  if (height < 1 || width < 1 || width > kMostPixels / height) {
    fail(Code::data_loss, path + ": an image of " + std::to_string(width) + " × " + std::to_string(height) + " pixels");
  }
  return {height, width, channels, Bytes(static_cast<std::size_t>(height * width * channels))};
}

DecodedImage decode_png(const std::string& path, const Bytes& bytes, std::int64_t channels) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> guard(&png, png_image_free);
  const auto damaged = [&] { fail(Code::data_loss, path + ": damaged PNG: " + png.message); };
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) damaged();
  png.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  DecodedImage image = make_image(path, png.height, png.width, channels);
  const png_color black{};
  if (png_image_finish_read(&png, &black, image.pixels.data(), 0, nullptr) == 0) damaged();
  return image;
}

DecodedImage decode_jpeg(const std::string& path, const Bytes& bytes, std::int64_t channels) {
  const std::unique_ptr<void, int (*)(void*)> jpeg(tjInitDecompress(), tjDestroy);
  check(jpeg != nullptr, Code::internal, "libjpeg-turbo does not start");
  // Its warnings are damage, too: it goes on with made-up pixels after a premature end.
  const auto ok = [&](int status) {
    if (status != 0) fail(Code::data_loss, path + ": damaged JPEG: " + tjGetErrorStr2(jpeg.get()));
  };
  int width = 0, height = 0, sampling = 0, colours = 0;
  ok(tjDecompressHeader3(jpeg.get(), bytes.data(), bytes.size(), &width, &height, &sampling, &colours));
  DecodedImage image = make_image(path, height, width, channels);
  ok(tjDecompress2(jpeg.get(), bytes.data(), bytes.size(), image.pixels.data(), width, 0, height,
                   channels == 1 ? TJPF_GRAY : TJPF_RGB, TJFLAG_ACCURATEDCT));
  return image;
}

/// One pixel of the result along one axis: so many pixels from `first` on, with these weights.
struct Weights {
  std::int64_t first;
  std::vector<float> share;
};

std::vector<Weights> weights_of(std::int64_t in, std::int64_t out) {
  const double ratio = static_cast<double>(in) / static_cast<double>(out), reach = std::max(ratio, 1.0);
  std::vector<Weights> all;
  for (std::int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * ratio;
    const auto first = static_cast<std::int64_t>(std::max(0.0, std::floor(centre - reach)));
    const auto end = std::min(in, static_cast<std::int64_t>(std::ceil(centre + reach)));
    Weights& w = all.emplace_back(Weights{first, {}});
    double sum = 0;
    for (std::int64_t k = first; k < end; ++k) {
      const double share = std::max(0.0, 1 - std::fabs(static_cast<double>(k) + 0.5 - centre) / reach);
      w.share.push_back(static_cast<float>(share));
      sum += share;
    }
    for (float& share : w.share) share = static_cast<float>(static_cast<double>(share) / sum);
  }
  return all;
}

}  // namespace

DecodedImage decode_image(const std::string& path, std::int64_t channels) {
  const Bytes bytes = read_file(path);
  constexpr unsigned char kPng[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, kJpeg[] = {0xff, 0xd8, 0xff};
  const auto begins_with = [&](const auto& signature) {
    return bytes.size() >= std::size(signature) && std::equal(std::begin(signature), std::end(signature), bytes.begin());
  };
  if (begins_with(kPng)) return decode_png(path, bytes, channels);
  if (begins_with(kJpeg)) return decode_jpeg(path, bytes, channels);
  fail(Code::data_loss, path + ": neither a PNG nor a JPEG file");
}

void resample(const DecodedImage& image, std::int64_t height, std::int64_t width, float* out) {
  const std::int64_t c = image.channels;
  if (image.height == height && image.width == width) {
    std::copy(image.pixels.begin(), image.pixels.end(), out);
    return;
  }
  const auto rows = weights_of(image.height, height), columns = weights_of(image.width, width);
  std::vector<float> narrow(static_cast<std::size_t>(image.height * width * c));     // columns first, then rows
  for (std::int64_t i = 0; i < image.height; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      const Weights& w = columns[static_cast<std::size_t>(j)];
      float* to = narrow.data() + (i * width + j) * c;
      const unsigned char* from = image.pixels.data() + (i * image.width + w.first) * c;
      for (const float share : w.share) {
        for (std::int64_t k = 0; k < c; ++k) to[k] += share * static_cast<float>(from[k]);
        from += c;
      }
    }
  }
  std::fill_n(out, height * width * c, 0.f);
  for (std::int64_t i = 0; i < height; ++i) {
    const Weights& w = rows[static_cast<std::size_t>(i)];
    float* to = out + i * width * c;
    const float* from = narrow.data() + w.first * width * c;
    for (const float share : w.share) {
      for (std::int64_t k = 0; k < width * c; ++k) to[k] += share * from[k];
      from += width * c;
    }
  }
}

}  // namespace cohort
