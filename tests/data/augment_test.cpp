#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "data/fake_reader.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::HasSubstr;

TEST(Augment, CropsAndFlipsAreWhatTheySay) {
  const auto reader = std::make_shared<FakeReader>(400);
  PipelineOptions options = options_with(400);
  options.augment.crop_padding = 1;
  options.augment.flip = true;
  options.augment.fill = -5;
  BatchPipeline pipeline(reader, options, 0, 1);
  const Seen first = seen(*pipeline.next()), second = seen(*pipeline.next());
  // Every image must be one of the 18 ways to pad by one, cut and mirror, worked out here from the padded image.
  std::map<std::tuple<int, int, bool>, int> ways;
  for (std::size_t i = 0; i < 400; ++i) {
    const float base = 1000.f * static_cast<float>(first.ids[i]);
    const auto padded = [&](int y, int x, int c) {   // of the image with a border of one
      return y < 1 || y > 4 || x < 1 || x > 5 ? -5.f : base + static_cast<float>(((y - 1) * 5 + x - 1) * 2 + c);
    };
    int matches = 0;
    for (int way = 0; way < 18; ++way) {
      const int down = way % 3, right = way / 3 % 3;
      const bool mirror = way >= 9;
      bool same = true;
      for (int j = 0; j < 40; ++j) {
        const int y = j / 10, x = j / 2 % 5, c = j % 2;
        same =
            same && first.images[i * 40 + static_cast<std::size_t>(j)] == padded(y + down, (mirror ? 4 - x : x) + right, c);
      }
      if (!same) continue;
      ++matches;
      ++ways[{down, right, mirror}];
    }
    ASSERT_EQ(matches, 1) << "sample " << first.ids[i];
  }
  EXPECT_EQ(ways.size(), 18u) << "all ways happen";
  for (const auto& [way, count] : ways) EXPECT_LT(count, 22 + 5 * 5) << "none too often (22 +- 5)";
  // Another epoch draws anew for the same sample.
  const auto at = std::find(second.ids.begin(), second.ids.end(), first.ids[0]) - second.ids.begin();
  int changed = 0;
  for (std::size_t i = 0; i < 400; ++i) {
    const auto j =
        static_cast<std::size_t>(std::find(second.ids.begin(), second.ids.end(), first.ids[i]) - second.ids.begin());
    changed += std::equal(first.images.begin() + static_cast<std::ptrdiff_t>(i * 40),
                          first.images.begin() + static_cast<std::ptrdiff_t>(i * 40 + 40),
                          second.images.begin() + static_cast<std::ptrdiff_t>(j * 40))
                   ? 0
                   : 1;
  }
  EXPECT_GE(at, 0);
  EXPECT_GT(changed, 350);
}

TEST(Augment, PaddingMayBeWiderThanTheImage) {
  const auto reader = std::make_shared<FakeReader>(300);
  PipelineOptions options = options_with(300);
  options.augment.crop_padding = 7;
  options.augment.flip = true;
  options.augment.fill = -5;
  BatchPipeline pipeline(reader, options, 0, 1);
  const Seen batch = seen(*pipeline.next());
  int empty = 0;
  for (std::size_t i = 0; i < 300; ++i) {
    // Each pixel's place in the old image must be one shift (and perhaps mirror) away; all padding is right as well.
    std::set<std::tuple<int, int, bool>> ways;
    for (int way = 0; way < 2 * 15 * 15; ++way) ways.insert({way / 2 % 15 - 7, way / 30 - 7, way % 2 == 1});
    for (int j = 0; j < 40; ++j) {
      std::erase_if(ways, [&](const auto& way) {
        const auto [down, right, mirror] = way;
        const int y = j / 10 + down, x = (mirror ? 4 - j / 2 % 5 : j / 2 % 5) + right;
        const bool inside = y >= 0 && y < 4 && x >= 0 && x < 5;
        const float value =
            inside ? 1000.f * static_cast<float>(batch.ids[i]) + static_cast<float>((y * 5 + x) * 2 + j % 2) : -5.f;
        return batch.images[i * 40 + static_cast<std::size_t>(j)] != value;
      });
    }
    ASSERT_FALSE(ways.empty()) << "sample " << batch.ids[i];
    empty += ways.size() > 2 ? 1 : 0;
  }
  EXPECT_GT(empty, 50) << "some show nothing but padding";
}

TEST(Augment, RefusesWhatIsNoImage) {
  const auto reader = std::make_shared<FakeReader>(4);
  PipelineOptions options = options_with(2);
  options.augment.flip = true;
  options.augment.field = "id";
  EXPECT_THAT(error_of([&] { BatchPipeline(reader, options, 0, 1); }),
              HasSubstr("field 'id' is int64[], expected a float32 image"));
  options.augment.field = "img";
  EXPECT_THAT(error_of([&] { BatchPipeline(reader, options, 0, 1); }), HasSubstr("unknown field 'img'"));
}

}  // namespace
}  // namespace cohort
