#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/stored_image.hpp"

namespace cohort {

/// Pixels row by row, `channels` values each, in the range of 8 bits: 0 to 255.
struct DecodedImage {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<float> pixels;
};

struct DecodeOptions {
  std::int64_t channels = 3;           ///< 1: grey, 3: red, green, blue
  bool full_depth = false;             ///< 16-bit values / 257; else their upper 8 bits, whole numbers
  bool apply_gamma = false;            ///< a PNG that names its gamma is brought to that of screens, 1/2.2
  PixelLimit limit;
};

/// A PNG or JPEG file as grey values or red, green and blue, whatever is stored. Values are those in the file, as Pillow's
/// convert("L") and convert("RGB") and OpenCV read them: transparency is left out, no colour profile is applied, grey is
/// (299 R + 587 G + 114 B) / 1000, and CMYK is inverted as Adobe stores it and mixed as Pillow does. Which of the two
/// formats it is is seen from its first bytes. Error not_found if it cannot be read, data_loss, naming the file, if it is
/// neither, of a kind that the decoder does not know, or damaged in any way that the decoder notices; invalid_argument, before
/// there is memory for it, if it is larger than the limit. Any thread.
[[nodiscard]] DecodedImage decode_image(const std::string& path, const DecodeOptions& options);

/// Brings an image to another size: each pixel of the result is the mean of those around its place, weighted by a triangle
/// as wide as two pixels of the coarser grid, so that an image shrinks without aliasing (as PIL's "bilinear").
/// `out`: height × width × channels values. Takes memory for one row of the result, however long and narrow the image is.
void resample(const DecodedImage& image, std::int64_t height, std::int64_t width, float* out);

}  // namespace cohort
