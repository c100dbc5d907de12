// A classification task made up on the spot, the same on every machine: each class has a pattern, a sample is its class's
// pattern plus noise. Any net can learn it; how well is set by the noise.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"
#include "cohort/data/reader.hpp"

namespace cohort {
namespace {

struct SyntheticOptions {
  std::int64_t samples = 10'000, first = 0;
  std::vector<std::int64_t> shape = {28, 28, 1};
  int classes = 10;
  double noise = 1;
  std::uint64_t seed = 1;

  explicit SyntheticOptions(Section& section) {
    constexpr double kMost = 4294967295.0;
    section.bind("samples", samples, "size of the set", between(0, kMost));
    section.bind("first", first, "number of the first sample: sets that do not overlap share their classes",
                 between(0, 0x1p52));
    section.bind("shape", shape, "of one image: height, width, channels", between(1, kMost));
    section.bind("classes", classes, "labels are below this", at_least(1));
    section.bind("noise", noise, "standard deviation of the noise; the patterns have 1", between(0, 1e30));
    section.bind("seed", seed, "another seed is another task");
    check(shape.size() <= Shape::kMaxRank - 1, Code::invalid_argument, section.path() + ".shape: at most 7 dimensions");
  }
};

class SyntheticReader final : public Reader {
 public:
  explicit SyntheticReader(const SyntheticOptions& options) : options_(options) {
    const Shape shape(options.shape);
    pixels_ = static_cast<std::size_t>(shape.elements());
    fields_ = {{"image", DType::float32, shape}, {"label", DType::int32, {}}};
    period_ = std::min(pixels_, kLongestPattern);
    patterns_.resize(static_cast<std::size_t>(options.classes) * period_);
    for (std::size_t i = 0; i < patterns_.size(); ++i)
      patterns_[i] = random_normal(options.seed, stream_of("synthetic pattern"), i);
  }

  [[nodiscard]] std::int64_t size() const override { return options_.samples; }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }

  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    auto* image = static_cast<float*>(buffers[0]);
    auto* label = static_cast<std::int32_t*>(buffers[1]);
    for (const std::uint32_t sample : samples) {
      const std::uint64_t number = static_cast<std::uint64_t>(options_.first) + sample;
      *label = static_cast<std::int32_t>(
          random_below(static_cast<std::uint64_t>(options_.classes), options_.seed, stream_of("synthetic label"), number));
      fill(image, number, static_cast<std::size_t>(*label));
      image += pixels_;
      ++label;
    }
  }

 private:
  static constexpr std::size_t kLongestPattern = 4096;   // a thousand classes of large images still fit in memory

  void fill(float* image, std::uint64_t number, std::size_t label) const {
    // Uniform noise in steps of 2^-32: four values for one run of the generator, and no logarithm.
    const auto step = static_cast<float>(options_.noise * std::sqrt(12.0) * 0x1p-32);
    const float* pattern = patterns_.data() + label * period_;
    const std::uint64_t stream = stream_of("synthetic noise");
    const std::uint64_t quads = (pixels_ + 3) / 4;
    for (std::size_t i = 0; i < pixels_; i += 4) {
      const auto words = philox(options_.seed, stream, number * quads + i / 4);
      for (std::size_t j = i; j < std::min(i + 4, pixels_); ++j) {
        image[j] = pattern[j % period_] + step * (static_cast<float>(words[j - i]) - 0x1p31f);
      }
    }
  }

  SyntheticOptions options_;
  std::size_t pixels_ = 0, period_ = 0;
  std::vector<Field> fields_;
  std::vector<float> patterns_;
};

const Registered<ReaderType> reader{"synthetic", reader_type<SyntheticReader, SyntheticOptions>()};

}  // namespace
}  // namespace cohort
