#include <turbojpeg.h>

#include <memory>

#include "cohort/base/error.hpp"
#include "data/stored_image.hpp"

namespace cohort {

StoredImage decode_jpeg(const std::string& path, std::span<const unsigned char> file, const PixelLimit& limit) {
  const std::unique_ptr<void, int (*)(void*)> jpeg(tjInitDecompress(), tjDestroy);
  check(jpeg != nullptr, Code::internal, "libjpeg-turbo does not start");
  // Its warnings are damage, too: it goes on with made-up pixels after a premature end.
  const auto ok = [&](int status) {
    if (status == 0) return;
    const std::string reason = tjGetErrorStr2(jpeg.get());
    fail(Code::data_loss, path + ": a JPEG that is damaged, or of a kind that libjpeg-turbo does not read: " + reason);
  };
  int width = 0, height = 0, sampling = 0, colours = 0;
  ok(tjDecompressHeader3(jpeg.get(), file.data(), file.size(), &width, &height, &sampling, &colours));
  const int samples = colours == TJCS_GRAY ? 1 : colours == TJCS_CMYK || colours == TJCS_YCCK ? 4 : 3;
  const int format = samples == 1 ? TJPF_GRAY : samples == 4 ? TJPF_CMYK : TJPF_RGB;
  StoredImage image(path, height, width, samples, 1, limit);
  ok(tjDecompress2(jpeg.get(), file.data(), file.size(), image.bytes.data(), width, 0, height, format, TJFLAG_ACCURATEDCT));
  return image;
}

}  // namespace cohort
