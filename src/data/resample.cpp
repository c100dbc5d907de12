#include <algorithm>
#include <cmath>

#include "data/decode_image.hpp"

namespace cohort {
namespace {

/// One pixel of the result along one axis: so many pixels from `first` on, with these weights.
struct Weights {
  std::int64_t first;
  std::vector<float> share;
  [[nodiscard]] std::int64_t end() const { return first + std::ssize(share); }
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

void resample(const DecodedImage& image, std::int64_t height, std::int64_t width, float* out) {
  const std::int64_t c = image.channels;
  if (image.height == height && image.width == width) {
    std::copy(image.pixels.begin(), image.pixels.end(), out);
    return;
  }
  const auto rows = weights_of(image.height, height), columns = weights_of(image.width, width);
  // Row by row of the image: brought to the new width, and then added to the rows of the result that it has a share in.
  std::vector<float> narrow(static_cast<std::size_t>(width * c));
  std::fill_n(out, height * width * c, 0.f);
  std::int64_t begin = 0;                                              // rows of the result before it are complete
  for (std::int64_t i = 0; i < image.height; ++i) {
    std::fill(narrow.begin(), narrow.end(), 0.f);
    for (std::int64_t j = 0; j < width; ++j) {
      const Weights& w = columns[static_cast<std::size_t>(j)];
      float* to = narrow.data() + j * c;
      const float* from = image.pixels.data() + (i * image.width + w.first) * c;
      for (const float share : w.share) {
        for (std::int64_t k = 0; k < c; ++k) to[k] += share * from[k];
        from += c;
      }
    }
    while (begin < height && rows[static_cast<std::size_t>(begin)].end() <= i) ++begin;
    for (std::int64_t r = begin; r < height && rows[static_cast<std::size_t>(r)].first <= i; ++r) {
      const Weights& w = rows[static_cast<std::size_t>(r)];
      const float share = w.share[static_cast<std::size_t>(i - w.first)];
      float* to = out + r * width * c;
      for (std::int64_t k = 0; k < width * c; ++k) to[k] += share * narrow[static_cast<std::size_t>(k)];
    }
  }
}

}  // namespace cohort
