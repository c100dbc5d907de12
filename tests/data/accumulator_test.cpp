// The accumulators, row by row of what TensorFlow's do (conditional_accumulator.h, sparse_conditional_accumulator.h, 1.15).
#include "cohort/data/accumulator.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cohort/base/clock.hpp"
#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"
#include "support/patience.hpp"

namespace cohort {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Indices = std::vector<std::int64_t>;
using Values = std::vector<float>;
constexpr std::int64_t kUnknown = Shape::kUnknown;
constexpr std::chrono::duration<double> kLimit(testing::kHung);

Tensor vec(const Values& values) { return Tensor::of<float>({static_cast<std::int64_t>(values.size())}, values); }

SparseGradient sparse(const Indices& indices, const Values& values, std::optional<Shape> shape = {}) {
  const auto n = static_cast<std::int64_t>(indices.size());
  const std::int64_t width = n == 0 ? 2 : static_cast<std::int64_t>(values.size()) / n;
  return {Tensor::of<std::int64_t>({n}, indices), Tensor::of<float>({n, width}, values), std::move(shape)};
}

std::string error_of(const std::function<void()>& body, Code code = Code::invalid_argument) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

/// A take in a thread of its own, the last of those that wait; it is cancelled at the latest when this goes.
template <class Accumulator>
class Take {
 public:
  Take(Accumulator& accumulator, std::int64_t n)
      : before_(accumulator.num_pending()),
        result_(std::async(std::launch::async,
                           [&accumulator, n, stop = source_.get_token()] { return accumulator.take_grad(n, stop); })) {
    const double end = Clock::steady().now() + 20;
    while (accumulator.num_pending() == before_) {
      if (Clock::steady().now() > end) throw std::runtime_error("a take does not begin");
      std::this_thread::yield();
    }
  }
  Take(const Take&) = delete;
  Take& operator=(const Take&) = delete;
  ~Take() { source_.request_stop(); }
  /// It has had time, though not for sure enough, to end wrongly.
  [[nodiscard]] bool waits() { return result_.wait_for(std::chrono::milliseconds(20)) == std::future_status::timeout; }
  auto get() {
    if (result_.wait_for(kLimit) == std::future_status::timeout) {
      ADD_FAILURE() << "a take does not end";
      source_.request_stop();
    }
    return result_.get();
  }
  void cancel() { source_.request_stop(); }

 private:
  std::size_t before_;
  std::stop_source source_;
  std::future<decltype(std::declval<Accumulator&>().take_grad(1))> result_;
};

// ---- § 19, dense

TEST(ConditionalAccumulator, BeginsEmptyAtStepZero) {
  const ConditionalAccumulator accumulator;
  EXPECT_EQ(accumulator.num_accumulated(), 0);
  EXPECT_EQ(accumulator.global_step(), 0);
}

TEST(ConditionalAccumulator, ReductionTypeIsMeanOrSum) {
  EXPECT_EQ(reduction_from("MEAN"), Reduction::mean);
  EXPECT_EQ(reduction_from("SUM"), Reduction::sum);
  EXPECT_THAT(error_of([] { (void)reduction_from("MAX"); }), HasSubstr("'MAX', allowed: MEAN SUM"));
  for (const Reduction reduction : {Reduction::mean, Reduction::sum}) {
    ConditionalAccumulator accumulator(DType::float32, Shape{2}, reduction);
    accumulator.apply_grad(vec({1, 2}));
    accumulator.apply_grad(vec({3, 6}));
    const Values expected = reduction == Reduction::mean ? Values{2, 4} : Values{4, 8};
    EXPECT_EQ(accumulator.take_grad(1).to_vector<float>(), expected);
  }
}

TEST(ConditionalAccumulator, ApplyGradTakesTheCurrentStepAndLaterOnes) {
  ConditionalAccumulator accumulator;
  accumulator.set_global_step(5);
  EXPECT_TRUE(accumulator.apply_grad(vec({1}), 5));
  EXPECT_TRUE(accumulator.apply_grad(vec({1}), 6));
  EXPECT_EQ(accumulator.num_accumulated(), 2);
}

TEST(ConditionalAccumulator, ApplyGradDropsOlderStepsSilentlyAndUnread) {
  ConditionalAccumulator accumulator(DType::float32, Shape{2});
  accumulator.set_global_step(5);
  EXPECT_FALSE(accumulator.apply_grad(vec({1, 1}), 4));
  EXPECT_FALSE(accumulator.apply_grad(vec({1, 1, 1}), 4)) << "not even validated";
  EXPECT_FALSE(accumulator.apply_grad(vec({1, 1}))) << "the local step is 0 by default";
  EXPECT_EQ(accumulator.num_accumulated(), 0);
}

TEST(ConditionalAccumulator, ApplyGradKeepsNoHoldOfTheCallersMemory) {
  ConditionalAccumulator accumulator;
  Tensor gradient = vec({1, 2});
  accumulator.apply_grad(gradient);
  gradient.data<float>()[0] = 100;
  EXPECT_THAT(accumulator.take_grad(1).to_vector<float>(), ElementsAre(1, 2));
}

TEST(ConditionalAccumulator, TakeGradNeedsAPositiveNumber) {
  ConditionalAccumulator accumulator;
  EXPECT_EQ(error_of([&] { (void)accumulator.take_grad(0); }), "Argument num_required must be positive, but was 0");
  EXPECT_EQ(error_of([&] { (void)accumulator.take_grad(-3); }), "Argument num_required must be positive, but was -3");
}

TEST(ConditionalAccumulator, TakeGradBlocksUntilEnoughAreThere) {
  ConditionalAccumulator accumulator;
  Take take(accumulator, 3);
  accumulator.apply_grad(vec({3}));
  accumulator.apply_grad(vec({3}));
  EXPECT_TRUE(take.waits());
  accumulator.apply_grad(vec({9}));
  EXPECT_THAT(take.get().template to_vector<float>(), ElementsAre(5));
}

TEST(ConditionalAccumulator, TakeGradDividesByAllThatAreThere) {
  ConditionalAccumulator accumulator;
  for (const float x : {1.f, 2.f, 6.f}) accumulator.apply_grad(vec({x}));
  EXPECT_THAT(accumulator.take_grad(2).to_vector<float>(), ElementsAre(3));
}

TEST(ConditionalAccumulator, TakeGradEmptiesAndAdvancesTheStepByOne) {
  ConditionalAccumulator accumulator;
  accumulator.set_global_step(7);
  accumulator.apply_grad(vec({1}), 100);
  (void)accumulator.take_grad(1);
  EXPECT_EQ(accumulator.num_accumulated(), 0);
  EXPECT_EQ(accumulator.global_step(), 8);
  EXPECT_FALSE(accumulator.apply_grad(vec({1}), 7));
  EXPECT_TRUE(accumulator.apply_grad(vec({4}), 8));
  EXPECT_THAT(accumulator.take_grad(1).to_vector<float>(), ElementsAre(4)) << "nothing is left of the round before";
}

TEST(ConditionalAccumulator, PendingTakesAreFirstInFirstOut) {
  ConditionalAccumulator accumulator;
  Take first(accumulator, 2), second(accumulator, 1);
  accumulator.apply_grad(vec({1}));
  EXPECT_TRUE(second.waits()) << "has what it needs, but it is not its turn";
  accumulator.apply_grad(vec({3}));
  EXPECT_THAT(first.get().template to_vector<float>(), ElementsAre(2));
  EXPECT_TRUE(second.waits()) << "all were taken";
  accumulator.apply_grad(vec({9}), 1);
  EXPECT_THAT(second.get().template to_vector<float>(), ElementsAre(9));
}

TEST(ConditionalAccumulator, ACancelledTakeSaysSoAndMakesRoom) {
  ConditionalAccumulator accumulator;
  Take first(accumulator, 5), second(accumulator, 1);
  accumulator.apply_grad(vec({1}));
  ASSERT_TRUE(second.waits());
  first.cancel();
  EXPECT_EQ(error_of([&] { (void)first.get(); }, Code::cancelled), "TakeGrad operation was cancelled");
  EXPECT_THAT(second.get().template to_vector<float>(), ElementsAre(1));
  EXPECT_EQ(accumulator.global_step(), 1) << "a cancelled take takes nothing";
}

TEST(ConditionalAccumulator, ATakeThatIsCancelledBeforehandTakesNothing) {
  ConditionalAccumulator accumulator;
  accumulator.apply_grad(vec({1}));
  std::stop_source source;
  source.request_stop();
  EXPECT_EQ(error_of([&] { (void)accumulator.take_grad(1, source.get_token()); }, Code::cancelled), "TakeGrad operation was cancelled");
  EXPECT_EQ(accumulator.num_accumulated(), 1);
}

TEST(ConditionalAccumulator, SetGlobalStepGoesBackWithAWarningOnly) {
  std::vector<std::string> lines;
  ConditionalAccumulator accumulator(DType::float32, {}, Reduction::mean, Log("", LogLevel::info, [&](LogLevel level, std::string_view line) {
                                       EXPECT_EQ(level, LogLevel::warning);
                                       lines.emplace_back(line);
                                     }));
  accumulator.set_global_step(9);
  accumulator.set_global_step(9);
  EXPECT_TRUE(lines.empty());
  accumulator.set_global_step(2);
  EXPECT_EQ(accumulator.global_step(), 2);
  EXPECT_TRUE(accumulator.apply_grad(vec({1}), 2));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("from 9 to 2"));
}

TEST(ConditionalAccumulator, NumAccumulatedCountsWhatWasNotDropped) {
  ConditionalAccumulator accumulator(DType::float32, Shape{1});
  for (int i = 0; i < 3; ++i) accumulator.apply_grad(vec({1}));
  accumulator.apply_grad(vec({1}), -1);
  (void)error_of([&] { accumulator.apply_grad(vec({1, 2})); });
  EXPECT_EQ(accumulator.num_accumulated(), 3);
}

TEST(ConditionalAccumulator, TheDeclaredShapeIsChecked) {
  ConditionalAccumulator accumulator(DType::float32, Shape{kUnknown, 2});
  EXPECT_EQ(error_of([&] { accumulator.apply_grad(Tensor::zeros({3, 3})); }), "Shape mismatch: expected [?, 2], got [3, 3]");
  EXPECT_EQ(error_of([&] { accumulator.apply_grad(Tensor::zeros({2})); }), "Shape mismatch: expected [?, 2], got [2]");
  EXPECT_TRUE(accumulator.apply_grad(Tensor::zeros({3, 2})));
}

TEST(ConditionalAccumulator, TheFirstGradientFixesTheShapeForItsRound) {
  for (const std::optional<Shape>& declared : {std::optional<Shape>{}, std::optional<Shape>{Shape{kUnknown, 2}}}) {
    ConditionalAccumulator accumulator(DType::float32, declared);
    accumulator.apply_grad(Tensor::zeros({3, 2}));
    EXPECT_EQ(error_of([&] { accumulator.apply_grad(Tensor::zeros({4, 2})); }), "Shape mismatch: expected [3, 2], got [4, 2]");
    EXPECT_EQ(accumulator.take_grad(1).shape(), (Shape{3, 2}));
    EXPECT_TRUE(accumulator.apply_grad(Tensor::zeros({4, 2}), 1)) << "another round, another shape";
    EXPECT_EQ(accumulator.take_grad(1).shape(), (Shape{4, 2}));
  }
}

TEST(ConditionalAccumulator, ScalarsEmptyTensorsPaddedRowsAndDoubles) {
  ConditionalAccumulator scalars, empty;
  scalars.apply_grad(Tensor::scalar(3.f));
  scalars.apply_grad(Tensor::scalar(5.f));
  EXPECT_THAT(scalars.take_grad(2).to_vector<float>(), ElementsAre(4));
  empty.apply_grad(Tensor::zeros({0, 3}));
  empty.apply_grad(Tensor::zeros({0, 3}));
  EXPECT_EQ(empty.take_grad(2).shape(), (Shape{0, 3}));
  Tensor padded(host(), DType::float32, {2, 3}, 5);
  padded.copy_from(Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6}));
  ConditionalAccumulator rows;
  rows.apply_grad(padded);
  rows.apply_grad(padded);
  EXPECT_THAT(rows.take_grad(2).to_vector<float>(), ElementsAre(1, 2, 3, 4, 5, 6));
  ConditionalAccumulator doubles(DType::float64);
  doubles.apply_grad(Tensor::of<double>({1}, {0.1}));
  EXPECT_EQ(doubles.take_grad(1).to_vector<double>()[0], 0.1);
  EXPECT_THAT(error_of([&] { doubles.apply_grad(vec({1}), 1); }), HasSubstr("a gradient of float32 for an accumulator of float64"));
  EXPECT_THAT(error_of([] { ConditionalAccumulator{DType::int32}; }), HasSubstr("allowed: float32 float64"));
}

TEST(ConditionalAccumulator, SharingIsSharingTheObject) {
  const auto mine = std::make_shared<ConditionalAccumulator>();
  const std::shared_ptr<ConditionalAccumulator> theirs = mine;
  std::thread([theirs] { theirs->apply_grad(vec({5})); }).join();
  EXPECT_THAT(mine->take_grad(1).to_vector<float>(), ElementsAre(5));
}

/// Several threads apply and take: every gradient that counted is in exactly one sum, and every take has its number.
TEST(ConditionalAccumulator, ManyThreads) {
  constexpr int kWorkers = 3, kEach = 60, kTakers = 2, kPerTake = 6, kTakes = kWorkers * kEach / kPerTake;
  ConditionalAccumulator accumulator(DType::float64, Shape{3}, Reduction::sum);
  std::atomic<int> takes_left = kTakes, cancelled = 0;
  std::mutex mutex;
  double total = 0;
  std::stop_source stop;
  {
    std::vector<std::jthread> takers;
    for (int t = 0; t < kTakers; ++t) {
      takers.emplace_back([&] {
        try {
          for (;;) {
            const double sum = accumulator.take_grad(kPerTake, stop.get_token()).to_vector<double>()[1];
            const std::lock_guard lock(mutex);
            total += sum;
            --takes_left;
          }
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Code::cancelled);
          ++cancelled;
        }
      });
    }
    {
      std::vector<std::jthread> workers;
      for (int w = 0; w < kWorkers; ++w) {
        workers.emplace_back([&accumulator, w] {
          for (int i = 0; i < kEach; ++i) EXPECT_TRUE(accumulator.apply_grad(Tensor::of<double>({3}, {0, w * 1000. + i, 0}), 1 << 20));
        });
      }
    }
    const double end = Clock::steady().now() + 20;
    while (accumulator.num_accumulated() >= kPerTake && Clock::steady().now() < end) std::this_thread::yield();
    stop.request_stop();
  }
  EXPECT_EQ(cancelled, kTakers);
  if (accumulator.num_accumulated() > 0) total += accumulator.take_grad(1).to_vector<double>()[1];
  double expected = 0;
  for (int w = 0; w < kWorkers; ++w) for (int i = 0; i < kEach; ++i) expected += w * 1000. + i;
  EXPECT_EQ(total, expected);
  EXPECT_GE(takes_left, 0) << "a take had fewer than it asked for";
}

// ---- § 20, sparse

TEST(SparseConditionalAccumulator, RowsAreMergedByIndex) {
  SparseConditionalAccumulator accumulator(DType::float32, {}, Reduction::sum);
  accumulator.apply_grad(sparse({1, 4}, {1, 2, 3, 4}));
  accumulator.apply_grad(sparse({0, 4, 7}, {10, 20, 30, 40, 50, 60}));
  const SparseGradient taken = accumulator.take_grad(2);
  EXPECT_THAT(taken.indices.to_vector<std::int64_t>(), ElementsAre(0, 1, 4, 7));
  EXPECT_THAT(taken.values.to_vector<float>(), ElementsAre(10, 20, 1, 2, 33, 44, 50, 60));
}

TEST(SparseConditionalAccumulator, TheMeanDividesEachRowByTheGradientsThatHadIt) {
  SparseConditionalAccumulator accumulator;
  accumulator.apply_grad(sparse({0, 2}, {2, 4, 6, 8}));
  accumulator.apply_grad(sparse({2}, {4, 2}));
  accumulator.apply_grad(sparse({5}, {7, 9}));
  const SparseGradient taken = accumulator.take_grad(3);
  EXPECT_THAT(taken.indices.to_vector<std::int64_t>(), ElementsAre(0, 2, 5));
  EXPECT_THAT(taken.values.to_vector<float>(), ElementsAre(2, 4, 5, 5, 7, 9)) << "the dense mean would divide by 3";
}

TEST(SparseConditionalAccumulator, TheShapeTakenIsDeclaredRowsAndTheValuesOtherDimensions) {
  const auto shape_taken = [](std::optional<Shape> declared) {
    SparseConditionalAccumulator accumulator(DType::float32, std::move(declared));
    accumulator.apply_grad({Tensor::of<std::int64_t>({1}, {1}), Tensor::zeros({1, 2, 3}), Shape{9, 2, 3}});
    return *accumulator.take_grad(1).shape;
  };
  EXPECT_EQ(shape_taken(std::nullopt), (Shape{kUnknown, 2, 3}));
  EXPECT_EQ(shape_taken(Shape{kUnknown, 2, kUnknown}), (Shape{kUnknown, 2, 3}));
  EXPECT_EQ(shape_taken(Shape{9, kUnknown, 3}), (Shape{9, 2, 3}));
}

TEST(SparseConditionalAccumulator, TheFormIsChecked) {
  SparseConditionalAccumulator accumulator;
  const auto refused = [&](const Tensor& indices, const Tensor& values) { return error_of([&] { accumulator.apply_grad({indices, values}); }); };
  EXPECT_EQ(refused(Tensor::of<std::int64_t>({1, 1}, {0}), Tensor::zeros({1, 2})), "Input indices should be vector but received shape: [1, 1]");
  EXPECT_EQ(refused(Tensor::of<std::int64_t>({1}, {0}), Tensor::scalar(1.f)), "Values cannot be 0-dimensional.");
  EXPECT_EQ(refused(Tensor::of<std::int64_t>({3}, {0, 1, 2}), Tensor::zeros({2, 2})), "Expected 3 non-empty input values, got 2");
  EXPECT_EQ(accumulator.num_accumulated(), 0);
}

TEST(SparseConditionalAccumulator, TheDeclaredShapeIsChecked) {
  SparseConditionalAccumulator accumulator(DType::float32, Shape{5, 2});
  const auto refused = [&](const SparseGradient& gradient) { return error_of([&] { accumulator.apply_grad(gradient); }); };
  EXPECT_EQ(refused(sparse({1, 5}, {1, 2, 3, 4})), "Shape mismatch: index of slice 1 exceeded limits of shape; index is 5 exceeded 5");
  EXPECT_EQ(refused(sparse({1}, {1, 2}, Shape{5})), "Shape mismatch: expected shape rank at least 2, got 1");
  EXPECT_EQ(refused(sparse({1}, {1, 2}, Shape{5, 3})), "Shape mismatch: expected shape dim 1 to be 2, got 3");
  EXPECT_EQ(refused(sparse({1}, {1, 2}, Shape{4, 2})), "Shape mismatch: expected shape dim 0 to be 5, got 4");
  EXPECT_EQ(refused({Tensor::of<std::int64_t>({1}, {1}), vec({1})}), "Shape mismatch: expected values rank at least 2, got 1");
  EXPECT_EQ(refused(sparse({1}, {1, 2, 3})), "Shape mismatch: expected values dim 1 to be 2, got 3");
  EXPECT_TRUE(accumulator.apply_grad(sparse({4}, {1, 2}, Shape{5, 2})));
}

TEST(SparseConditionalAccumulator, TheFirstGradientsConstraintsVanishAfterATake) {
  SparseConditionalAccumulator accumulator;
  accumulator.apply_grad(sparse({1}, {1, 2}));
  EXPECT_EQ(error_of([&] { accumulator.apply_grad(sparse({1}, {1, 2, 3})); }), "Shape mismatch: expected values dim 1 to be 2, got 3");
  EXPECT_EQ(error_of([&] { accumulator.apply_grad({Tensor::of<std::int64_t>({1}, {1}), vec({1})}); }),
            "Shape mismatch: expected values rank 2, got 1");
  EXPECT_EQ(accumulator.num_accumulated(), 1);
  (void)accumulator.take_grad(1);
  EXPECT_TRUE(accumulator.apply_grad(sparse({3}, {1, 2, 3}), 1));
  const SparseGradient taken = accumulator.take_grad(1);
  EXPECT_THAT(taken.indices.to_vector<std::int64_t>(), ElementsAre(3));
  EXPECT_EQ(taken.values.shape(), (Shape{1, 3}));
}

TEST(SparseConditionalAccumulator, IndicesThatAreNotSortedAndUniqueAreRefused) {
  SparseConditionalAccumulator accumulator;
  EXPECT_THAT(error_of([&] { accumulator.apply_grad(sparse({2, 1}, {1, 2, 3, 4})); }), HasSubstr("1 follows 2 at slice 1"));
  EXPECT_THAT(error_of([&] { accumulator.apply_grad(sparse({2, 2}, {1, 2, 3, 4})); }), HasSubstr("2 follows 2 at slice 1"));
  EXPECT_THAT(error_of([&] { accumulator.apply_grad(sparse({-1}, {1, 2})); }), HasSubstr("index of slice 0 is -1"));
}

TEST(SparseConditionalAccumulator, TheProtocolIsTheDenseOnes) {
  SparseConditionalAccumulator accumulator(DType::float32, Shape{4, 2});
  accumulator.set_global_step(3);
  EXPECT_FALSE(accumulator.apply_grad(sparse({9}, {1, 2}), 2)) << "dropped, not even validated";
  EXPECT_EQ(error_of([&] { (void)accumulator.take_grad(0); }), "Argument num_required must be positive, but was 0");
  Take take(accumulator, 2);
  EXPECT_TRUE(accumulator.apply_grad(sparse({1}, {1, 2}), 3));
  EXPECT_TRUE(take.waits());
  EXPECT_TRUE(accumulator.apply_grad(sparse({}, {}), 4)) << "a gradient without rows counts";
  EXPECT_THAT(take.get().values.template to_vector<float>(), ElementsAre(1, 2));
  EXPECT_EQ(accumulator.global_step(), 4);
  Take never(accumulator, 1);
  never.cancel();
  EXPECT_EQ(error_of([&] { (void)never.get(); }, Code::cancelled), "TakeGrad operation was cancelled");
}

TEST(SparseConditionalAccumulator, WithoutAnyRow) {
  SparseConditionalAccumulator accumulator;
  accumulator.apply_grad(sparse({}, {}));
  accumulator.apply_grad(sparse({}, {}));
  const SparseGradient taken = accumulator.take_grad(2);
  EXPECT_EQ(taken.indices.elements(), 0);
  EXPECT_EQ(taken.values.shape(), (Shape{0, 2}));
}

/// Against a plain map, with random rows.
TEST(SparseConditionalAccumulator, RandomGradientsAgainstAMap) {
  constexpr std::uint64_t kSeed = 20;
  std::uint64_t at = 0;
  for (int round = 0; round < 20; ++round) {
    SparseConditionalAccumulator accumulator;
    std::map<std::int64_t, std::pair<double, int>> expected;
    for (int g = 0; g < 5; ++g) {
      Indices indices;
      Values values;
      for (std::int64_t row = 0; row < 13; ++row) {
        if (random_uniform(kSeed, 1, at) < 0.4f) {
          indices.push_back(row);
          values.push_back(static_cast<float>(random_below(100, kSeed, 2, at)));
          expected[row].first += values.back();
          expected[row].second += 1;
        }
        ++at;
      }
      const auto n = static_cast<std::int64_t>(indices.size());
      accumulator.apply_grad({Tensor::of<std::int64_t>({n}, indices), Tensor::of<float>({n}, values)});
    }
    const SparseGradient taken = accumulator.take_grad(5);
    const Indices rows = taken.indices.to_vector<std::int64_t>();
    const Values means = taken.values.to_vector<float>();
    ASSERT_EQ(rows.size(), expected.size());
    std::size_t i = 0;
    for (const auto& [row, sum] : expected) {
      EXPECT_EQ(rows[i], row);
      EXPECT_FLOAT_EQ(means[i], static_cast<float>(sum.first / sum.second));
      ++i;
    }
  }
}

}  // namespace
}  // namespace cohort
