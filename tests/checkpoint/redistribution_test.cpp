// Residuals of error feedback that go to other ranks than kept them: nobody's is lost, and none comes twice.
#include "checkpoint/redistribution.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "checkpoint/handover.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "support/patience.hpp"

namespace cohort {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const ThreadRanksOptions kBounded{.timeout = testing::kHung};

/// Two residuals, of three and of two elements.
class Keeper final : public ResidualKeeper {
 public:
  explicit Keeper(float first, std::int64_t layout = 0) : layout_(layout) {
    a.copy_from(Tensor::of<float>({3}, {first, first + 1, first + 2}));
    b.copy_from(Tensor::of<float>({2}, {-first, first / 8}));
  }
  void save(StateWriter& writer) const override {
    writer.tensor("residuals/a", a);
    writer.tensor("residuals/b", b);
  }
  void load(StateReader& reader) override {
    reader.tensor("residuals/a", a);
    reader.tensor("residuals/b", b);
  }
  [[nodiscard]] bool keeps_residuals() const noexcept override { return true; }
  [[nodiscard]] std::int64_t residual_layout() const override { return layout_; }
  void flush_residuals() noexcept override { flushed = true; }

  Tensor a{host(), DType::float32, {3}}, b{host(), DType::float32, {2}};
  bool flushed = false;

 private:
  std::int64_t layout_;
};

TEST(Redistribution, EveryRanksResidualsHaveOneHeir) {
  for (int before = 1; before <= 9; ++before) {
    for (int after = 1; after <= 9; ++after) {
      const Redistribution shares(before, after);
      std::vector<int> heirs(static_cast<std::size_t>(before), -1);
      for (int me = 0; me < after; ++me) {
        for (const int rank : shares.inherited_by(me)) {
          EXPECT_EQ(std::exchange(heirs[static_cast<std::size_t>(rank)], me), -1) << rank;
          EXPECT_EQ(shares.heir(rank), me);
        }
      }
      for (int rank = 0; rank < std::min(before, after); ++rank) EXPECT_EQ(heirs[static_cast<std::size_t>(rank)], rank) << "who goes on keeps its own";
      EXPECT_THAT(heirs, ::testing::Each(::testing::Ge(0)));
    }
  }
  EXPECT_THAT(Redistribution(8, 3).inherited_by(1), ElementsAre(1, 4, 7));
  EXPECT_THAT(Redistribution(2, 3).inherited_by(2), IsEmpty());
}

TEST(Redistribution, SumsInTheOrderOfRanks) {
  run_as_threads(1, [&](Communicator& alone) {
    Redistribution shares(3, 1);
    const float values[] = {1e8f, 1.f, -1e8f};
    for (const float value : values) shares.add(Keeper(value));
    Keeper heir(0);
    EXPECT_TRUE(shares.finish(alone, &heir, std::nullopt));
    EXPECT_EQ(heir.a.data<float>()[0], (values[0] + values[1]) + values[2]);
    EXPECT_EQ(heir.b.data<float>()[1], (values[0] / 8 + values[1] / 8) + values[2] / 8);
    EXPECT_TRUE(heir.flushed);
  }, kBounded);
}

TEST(Redistribution, TheFirstOneIsTakenAsItIsAndZerosAreZeros) {
  run_as_threads(1, [&](Communicator& alone) {
    Redistribution as_it_is(1, 1), from_zero(1, 1), nothing(1, 1);
    Keeper minus_zero(-0.f), heir(5);
    EXPECT_FALSE(nothing.finish(alone, &heir, heir.residual_layout()));
    EXPECT_EQ(heir.a.data<float>()[0], 5) << "where nothing comes, what there is stays";
    as_it_is.add(minus_zero);
    EXPECT_FALSE(as_it_is.finish(alone, &heir, heir.residual_layout()));
    EXPECT_TRUE(std::signbit(heir.a.data<float>()[0]));
    from_zero.begin_with_zeros(minus_zero);
    EXPECT_FALSE(from_zero.finish(alone, &heir, heir.residual_layout()));
    EXPECT_EQ(heir.a.data<float>()[1], 0);
    from_zero.add(minus_zero);
    EXPECT_FALSE(from_zero.finish(alone, &heir, heir.residual_layout()));
    EXPECT_FALSE(std::signbit(heir.a.data<float>()[0]));
    EXPECT_FALSE(heir.flushed);
  }, kBounded);
}

TEST(Redistribution, OneRanksOtherLayoutFlushesAll) {
  run_as_threads(3, [&](Communicator& ranks) {
    Keeper keeper(1, ranks.rank());
    Redistribution same(3, 3), other(3, 3);
    EXPECT_FALSE(same.finish(ranks, &keeper, ranks.rank()));
    EXPECT_FALSE(keeper.flushed);
    EXPECT_TRUE(other.finish(ranks, &keeper, ranks.rank() == 1 ? 7 : ranks.rank()));
    EXPECT_TRUE(keeper.flushed);
  }, kBounded);
}

TEST(Redistribution, AHandoverKeepsTheSum) {
  constexpr int kBefore = 4;
  for (int after = 1; after <= kBefore; ++after) {
    run_as_threads(kBefore, [&](Communicator& world) {
      const auto first = static_cast<float>(1 << world.rank());
      Keeper before(first), next(0);
      Handover handover(world);
      handover.take({}, before);
      Keeper* const mine = world.rank() < after ? &next : nullptr;
      handover.give_residuals(world, kBefore, after, mine);
      if (mine == nullptr) return;
      float expected = 0;
      for (const int rank : Redistribution(kBefore, after).inherited_by(world.rank())) expected += static_cast<float>(1 << rank);
      EXPECT_EQ(next.a.data<float>()[0], expected);
      EXPECT_EQ(next.b.data<float>()[0], -expected);
      EXPECT_EQ(next.flushed, after != kBefore);
    }, kBounded);
  }
}

}  // namespace
}  // namespace cohort
