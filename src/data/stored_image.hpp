#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cohort {

/// The largest image that is decoded. A file of a few kilobytes can stand for thousands of times as many pixels.
struct PixelLimit {
  double megapixels = 64;
  std::string option = "most_megapixels";      ///< by its full name, for messages
};

/// What a decoder makes of a file, before it is brought to the colours that somebody wants.
struct StoredImage {
  /// Takes memory for the pixels. Error data_loss for a size of nothing, invalid_argument beyond the limit: a header that is
  /// damaged, or made on purpose, must not ask for the whole memory.
  StoredImage(const std::string& path, std::int64_t height, std::int64_t width, int samples, int bytes_per_sample,
              const PixelLimit& limit);

  std::int64_t height, width;
  int samples;                           ///< of a pixel. 1: grey; 3: red, green, blue; 4: CMYK, 255 being no ink
  int bytes_per_sample;                  ///< 2: the upper byte comes first
  std::vector<unsigned char> bytes;      ///< row by row
  double gamma = 0;                      ///< a sample is light to the power of this; 0: the file does not say
};

/// `file`: the contents of the file `path`. Errors as `decode_image`.
[[nodiscard]] StoredImage decode_png(const std::string& path, std::span<const unsigned char> file,
                                     const PixelLimit& limit);
[[nodiscard]] StoredImage decode_jpeg(const std::string& path, std::span<const unsigned char> file,
                                      const PixelLimit& limit);

}  // namespace cohort
