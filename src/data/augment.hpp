#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cohort/data/pipeline.hpp"

namespace cohort {

/// Applies AugmentOptions to the images of a batch in place. One thread at a time: it has a scratch image.
class Augmenter {
 public:
  /// Does nothing if the options ask for nothing. Error invalid_argument if the field is no float32 image.
  Augmenter(const AugmentOptions& options, std::uint64_t seed, const Reader& reader);

  /// `buffers` as in Reader::read.
  void apply(std::int64_t epoch, std::span<const std::uint32_t> samples, std::span<void* const> buffers);

 private:
  void change(float* image, std::int64_t down, std::int64_t right, bool mirror);
  void mirror_row(const float* from, float* to, std::int64_t begin, std::int64_t end) const;

  AugmentOptions options_;
  std::uint64_t seed_;
  std::uint64_t set_size_ = 0;
  std::size_t field_ = 0;
  std::int64_t height_ = 0, width_ = 0, channels_ = 0;
  std::vector<float> scratch_;
};

}  // namespace cohort
