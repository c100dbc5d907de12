#include "data/augment.hpp"

#include <algorithm>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"

namespace cohort {

Augmenter::Augmenter(const AugmentOptions& options, std::uint64_t seed, const Reader& reader)
    : options_(options), seed_(seed), set_size_(static_cast<std::uint64_t>(reader.size())) {
  if (!options_.any()) return;
  std::vector<std::string> known;
  for (const Field& field : reader.fields()) known.push_back(field.name);
  const auto at = std::find(known.begin(), known.end(), options_.field);
  if (at == known.end()) fail(Code::invalid_argument, "augment.field: " + unknown_name_text("field", options_.field, known));
  field_ = static_cast<std::size_t>(at - known.begin());
  const Field& field = reader.fields()[field_];
  if (field.dtype != DType::float32 || field.shape.rank() != 3) {
    fail(Code::invalid_argument, "augment: field '" + field.name + "' is " + std::string(name(field.dtype)) +
                                     field.shape.text() + ", expected a float32 image [height, width, channels]");
  }
  height_ = field.shape[0];
  width_ = field.shape[1];
  channels_ = field.shape[2];
  scratch_.resize(static_cast<std::size_t>(field.shape.elements()));
}

void Augmenter::apply(std::int64_t epoch, std::span<const std::uint32_t> samples, std::span<void* const> buffers) {
  if (!options_.any()) return;
  auto* image = static_cast<float*>(buffers[field_]);
  const auto places = static_cast<std::uint64_t>(2 * options_.crop_padding + 1);
  const auto place = [&](std::uint32_t word) {
    return static_cast<std::int64_t>((word * places) >> 32) - options_.crop_padding;
  };
  for (const std::uint32_t sample : samples) {
    const auto words = philox(seed_, stream_of("augment"), static_cast<std::uint64_t>(epoch) * set_size_ + sample);
    change(image, place(words[0]), place(words[1]), options_.flip && (words[2] >> 31) != 0);
    image += scratch_.size();
  }
}

/// out[y][x] = in[y + down][x + right], with x mirrored first; what lies outside is the padding.
void Augmenter::change(float* image, std::int64_t down, std::int64_t right, bool mirror) {
  if (down == 0 && right == 0 && !mirror) return;
  std::copy_n(image, scratch_.size(), scratch_.data());
  const auto fill = static_cast<float>(options_.fill);
  const std::int64_t shift = mirror ? -right : right, row = width_ * channels_;
  const std::int64_t begin = std::clamp<std::int64_t>(-shift, 0, width_);           // columns that are not padding
  const std::int64_t end = std::clamp<std::int64_t>(width_ - shift, begin, width_);
  for (std::int64_t y = 0; y < height_; ++y, image += row) {
    const std::int64_t from_y = y + down;
    if (from_y < 0 || from_y >= height_) {
      std::fill_n(image, row, fill);
      continue;
    }
    const float* from = scratch_.data() + from_y * row;
    std::fill(image, image + begin * channels_, fill);
    if (mirror) mirror_row(from + (width_ - 1 + right) * channels_, image, begin, end);
    else std::copy(from + (begin + right) * channels_, from + (end + right) * channels_, image + begin * channels_);
    std::fill(image + end * channels_, image + row, fill);
  }
}

/// to[x] = from[-x] for x from `begin` to below `end`, in pixels.
void Augmenter::mirror_row(const float* from, float* to, std::int64_t begin, std::int64_t end) const {
  for (std::int64_t x = begin; x < end; ++x) {
    for (std::int64_t c = 0; c < channels_; ++c) to[x * channels_ + c] = from[c - x * channels_];
  }
}

}  // namespace cohort
