// Parameters that ranks keep in blocks, where a step reads them: in the order that the step was prepared for.
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <vector>

#include "cohort/comm/thread_ranks.hpp"
#include "exchange/layout.hpp"
#include "support/patience.hpp"
#include "updaters/parameter_window.hpp"

namespace cohort {
namespace {

/// Four parameters, each a bucket; element i of all is i.
class Windowed {
 public:
  explicit Windowed(Communicator& c) : layout_({1000, 256, 700, 1}) {
    Parameters& parameters = layout_.parameters();
    std::vector<FlatRange> buckets, mine;
    for (std::size_t p = 0; p < parameters.layout().trained().size(); ++p) {
      const FlatRange bucket = parameters.layout().range(p, p + 1);
      buckets.push_back(bucket);
      const Block block = block_of(c.rank(), c.size(), static_cast<std::size_t>(bucket.n));
      mine.push_back({bucket.begin + static_cast<std::int64_t>(block.begin), static_cast<std::int64_t>(block.size)});
    }
    window_.emplace(c, parameters, layout_.graph(), buckets, CollectiveOptions{});
    parameters.place_window(layout_.session(), Shard(mine, c.size()), [&](std::size_t p) { return window_->window(layout_.session().device(), p); });
    for (const FlatRange& range : mine) {
      for (std::int64_t i = range.begin; i < range.end(); ++i) *parameters.values().at(i) = static_cast<float>(i);
    }
  }

  [[nodiscard]] ParameterWindow& window() { return *window_; }
  void read(std::size_t p) {
    window_->need(std::span(&p, 1));
    const Parameter& parameter = layout_.places().trained()[p];
    const std::vector<float> values = layout_.parameters().value(p).to_vector<float>();
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<float>(parameter.offset) + static_cast<float>(i)) << p;
  }

 private:
  testing::Layout layout_;
  std::optional<ParameterWindow> window_;
};

constexpr std::array<std::size_t, 7> kForwardAndBack{0, 1, 2, 3, 2, 1, 0};

TEST(ParameterWindow, HoldsWhatIsReadAndFetchesWhatComesNextFromTheFirstStepOn) {
  for (const int ranks : {1, 2, 3, 4}) {
    run_as_threads(ranks, [&](Communicator& c) {
      Windowed windowed(c);
      EXPECT_EQ(windowed.window().slots(), 2u);
      for (int step = 0; step < 3; ++step) {
        const std::int64_t before = windowed.window().gathers();
        windowed.window().follow(kForwardAndBack);
        windowed.read(0);
        EXPECT_EQ(windowed.window().gathers(), before + 2) << "the second is on its way, in step " << step;
        for (std::size_t i = 1; i < kForwardAndBack.size(); ++i) windowed.read(kForwardAndBack[i]);
        EXPECT_EQ(windowed.window().gathers(), before + 6) << "what two slots ask for: 2 is still there on the way back";
        windowed.window().invalidate();
      }
    }, {.timeout = testing::kHung});
  }
}

TEST(ParameterWindow, RefusesAnotherOrder) {
  run_as_threads(2, [&](Communicator& c) {
    Windowed windowed(c);
    windowed.window().follow(kForwardAndBack);
    windowed.read(0);
    const std::size_t third = 2;
    EXPECT_THROW(windowed.window().need(std::span(&third, 1)), Error);
    windowed.window().invalidate();
  }, {.timeout = testing::kHung});
}

}  // namespace
}  // namespace cohort
