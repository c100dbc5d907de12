#include <gtest/gtest.h>

#include <numeric>

#include "ops/run_node.hpp"

namespace cohort::test {
namespace {

/// ⌊i · in / out⌋ without a division: the last pixel k with k · out ≤ i · in.
std::int64_t nearest_pixel(std::int64_t i, std::int64_t in, std::int64_t out) {
  std::int64_t k = 0;
  while ((k + 1) * out <= i * in) ++k;
  return k;
}

TEST(ResizeNearest, TakesTheWholePartOfTheShareAtAnySize) {
  for (std::uint64_t trial = 0; trial < 500; ++trial) {
    const auto size = [&](std::uint64_t which) { return 1 + static_cast<std::int64_t>(200 * random_uniform(7, which, trial)); };
    const std::int64_t in_height = size(0), in_width = size(1), height = size(2), width = size(3);
    std::vector<float> pixels(static_cast<std::size_t>(in_height * in_width));
    std::iota(pixels.begin(), pixels.end(), 0.f);      // each says where it lies
    const auto y = run_node("Resize", {Tensor::of<float>({1, in_height, in_width, 1}, pixels)},
                            {{"height", height}, {"width", width}, {"method", std::string("nearest")}})[0].to_vector<float>();
    std::vector<std::int64_t> columns;
    for (std::int64_t j = 0; j < width; ++j) columns.push_back(nearest_pixel(j, in_width, width));
    for (std::int64_t i = 0; i < height; ++i) {
      const std::int64_t row = nearest_pixel(i, in_height, height);
      for (std::int64_t j = 0; j < width; ++j) {
        ASSERT_EQ(y[static_cast<std::size_t>(i * width + j)], static_cast<float>(row * in_width + columns[static_cast<std::size_t>(j)]))
            << in_height << " × " << in_width << " to " << height << " × " << width << ", pixel " << i << ", " << j;
      }
    }
  }
}

}  // namespace
}  // namespace cohort::test
