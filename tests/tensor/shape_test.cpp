#include "cohort/tensor/shape.hpp"

#include <gtest/gtest.h>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

TEST(Shape, CountsRowsColumnsAndElements) {
  EXPECT_EQ(Shape({}).elements(), 1);
  EXPECT_EQ(Shape({3, 0, 2}).elements(), 0);
  EXPECT_EQ(Shape({3, 4, 5}).rows(), 12);
  EXPECT_EQ(Shape({3, 4, 5}).columns(), 5);
  EXPECT_EQ(Shape({7}).rows(), 1);
  EXPECT_EQ(Shape({2, Shape::kUnknown})[-1], Shape::kUnknown);
  EXPECT_EQ(Shape({2, Shape::kUnknown}).text(), "[2, ?]");
}

TEST(Shape, RefusesWhatIsNoShape) {
  EXPECT_THROW(Shape({-2}), Error);
  EXPECT_THROW(Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}), Error);
  EXPECT_THROW((void)Shape({1})[1], Error);
  EXPECT_THROW((void)Shape({Shape::kUnknown}).elements(), Error);
}

TEST(Shape, MoreElementsThanCanBeCountedAreAnError) {
  constexpr std::int64_t kMost = std::int64_t{1} << 48;
  EXPECT_EQ(Shape({kMost}).elements(), kMost);
  EXPECT_EQ(Shape({0, kMost}).elements(), 0);
  for (const Shape& shape : {Shape{kMost + 1}, Shape{kMost, 2}, Shape{kMost, kMost, kMost}, Shape{kMost, 0, 2}}) EXPECT_THROW((void)shape.elements(), Error);
}

TEST(Shape, InsertAndEraseKeepTheOrder) {
  Shape shape{1, 2, 3};
  shape.insert(1, 9);
  EXPECT_EQ(shape, Shape({1, 9, 2, 3}));
  shape.erase(0);
  EXPECT_EQ(shape, Shape({9, 2, 3}));
}

TEST(Shape, BroadcastsAsNumPyDoes) {
  EXPECT_EQ(broadcast({3, 1, 5}, {4, 1}), Shape({3, 4, 5}));
  EXPECT_EQ(broadcast({}, {2, 2}), Shape({2, 2}));
  EXPECT_EQ(broadcast({1}, {0}), Shape({0}));
  EXPECT_EQ(broadcast({Shape::kUnknown, 3}, {5, 1}), Shape({5, 3}));
  EXPECT_EQ(broadcast({Shape::kUnknown}, {1}), Shape({Shape::kUnknown}));
  EXPECT_FALSE(broadcast({2, 3}, {4}).has_value());
  EXPECT_FALSE(broadcast({2}, {0}).has_value());
}

}  // namespace
}  // namespace cohort
