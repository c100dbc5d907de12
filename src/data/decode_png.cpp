#include <png.h>

#include <algorithm>
#include <csetjmp>

#include "cohort/base/error.hpp"
#include "data/stored_image.hpp"

namespace cohort {
namespace {

/// What libpng's callbacks see. It must not be told of errors by an exception, which cannot pass its C code, but by a jump.
struct Source {
  std::span<const unsigned char> rest;
  char error[200] = "";
  std::size_t row_bytes = 0;                                      // as stored, decompressed
};

void read_bytes(png_structp png, png_bytep to, std::size_t n) {
  auto& source = *static_cast<Source*>(png_get_io_ptr(png));
  if (n > source.rest.size()) png_error(png, "the file ends too early");
  std::copy_n(source.rest.begin(), n, to);
  source.rest = source.rest.subspan(n);
}

[[noreturn]] void take_error(png_structp png, png_const_charp message) {
  auto& source = *static_cast<Source*>(png_get_error_ptr(png));
  std::size_t i = 0;
  for (; i + 1 < sizeof source.error && message[i] != '\0'; ++i) source.error[i] = message[i];
  source.error[i] = '\0';
  png_longjmp(png, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

/// Runs `step`, which calls libpng; false if libpng met an error. The jump leaves `step` without destructors, so neither it
/// nor what it calls may have objects that need one.
template <class Step>
bool guarded(png_structp png, const Step& step) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  step();
  return true;
}

struct PngReader {
  explicit PngReader(Source& source)
      : png(png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, take_error, ignore_warning)) {
    if (png != nullptr) info = png_create_info_struct(png);
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }

  png_structp png;
  png_infop info = nullptr;
};

/// Reads all before the pixels, and asks for them as grey or red, green and blue, of 8 or 16 bits.
void begin(png_structp png, png_infop info, Source& source) {
  png_set_read_fn(png, &source, read_bytes);
  png_read_info(png, info);
  source.row_bytes = png_get_rowbytes(png, info);
  if (png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  else if (png_get_bit_depth(png, info) < 8) png_set_expand_gray_1_2_4_to_8(png);
  png_set_strip_alpha(png);                                       // of the palette, too
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
}

}  // namespace

StoredImage decode_png(const std::string& path, std::span<const unsigned char> file, const PixelLimit& limit) {
  Source source{file};
  const PngReader reader(source);
  check(reader.info != nullptr, Code::internal, "libpng does not start");
  const png_structp png = reader.png;
  const png_infop info = reader.info;
  const auto damaged = [&] { fail(Code::data_loss, path + ": damaged PNG: " + source.error); };
  if (!guarded(png, [&] { begin(png, info, source); })) damaged();
  constexpr double kMostExpansion = 1032;                         // deflate cannot expand more
  if (static_cast<double>(source.row_bytes) * png_get_image_height(png, info) > kMostExpansion * static_cast<double>(file.size())) {
    fail(Code::data_loss, path + ": damaged PNG: claims " + std::to_string(png_get_image_width(png, info)) + " × " +
                              std::to_string(png_get_image_height(png, info)) + " pixels, which its " +
                              std::to_string(file.size()) + " bytes cannot hold");
  }
  StoredImage image(path, png_get_image_height(png, info), png_get_image_width(png, info), png_get_channels(png, info),
                    png_get_bit_depth(png, info) / 8, limit);
  png_get_gAMA(png, info, &image.gamma);
  const std::size_t row = image.bytes.size() / static_cast<std::size_t>(image.height);
  check(row == png_get_rowbytes(png, info), Code::internal, path + ": libpng has other rows than it says");
  std::vector<png_bytep> rows;
  for (std::int64_t i = 0; i < image.height; ++i) rows.push_back(image.bytes.data() + static_cast<std::size_t>(i) * row);
  if (!guarded(png, [&] { png_read_image(png, rows.data()); })) damaged();
  return image;
}

}  // namespace cohort
