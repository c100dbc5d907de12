#pragma once

#include <png.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cohort/base/error.hpp"

namespace cohort::testing {

using Pixels = std::vector<unsigned char>;

/// A PNG file of pixels in one of libpng's formats.
inline std::string png_of(std::uint32_t width, std::uint32_t height, std::uint32_t format, const Pixels& pixels) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = width;
  png.height = height;
  png.format = format;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string bytes(size, '\0');
  check(png_image_write_to_memory(&png, bytes.data(), &size, 0, pixels.data(), 0, nullptr) != 0, Code::internal, png.message);
  bytes.resize(size);
  return bytes;
}

}  // namespace cohort::testing
