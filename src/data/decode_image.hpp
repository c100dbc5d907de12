#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cohort {

/// Pixels row by row, `channels` bytes each.
struct DecodedImage {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<unsigned char> pixels;
};

/// A PNG or JPEG file as grey values (1 channel) or red, green and blue (3), whatever is stored; what is transparent lies on
/// black. Which of the two it is is seen from its first bytes. Error not_found if it cannot be read, data_loss, naming the
/// file, if it is neither or damaged in any way that the decoder notices. Any thread.
[[nodiscard]] DecodedImage decode_image(const std::string& path, std::int64_t channels);

/// Brings an image to another size: each pixel of the result is the mean of those around its place, weighted by a triangle
/// as wide as two pixels of the coarser grid, so that an image shrinks without aliasing (as PIL's "bilinear").
/// `out`: height × width × channels values.
void resample(const DecodedImage& image, std::int64_t height, std::int64_t width, float* out);

}  // namespace cohort
