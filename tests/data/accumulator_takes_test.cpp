// Takes that wait while gradients come faster than their threads wake. TensorFlow's conditional_accumulator_base.cc (1.15)
// serves them under the lock of the apply that brought the last gradient, in the order of their calls.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <future>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cohort/base/clock.hpp"
#include "cohort/base/error.hpp"
#include "cohort/data/accumulator.hpp"
#include "support/patience.hpp"

namespace cohort {
namespace {

constexpr double kLimit = testing::kHung;         // seconds, for whatever one test waits for
const Log kSilent("", LogLevel::error, [](LogLevel, std::string_view) {});   // a global step that is set back is warned of
constexpr std::int64_t kFuture = 1 << 20;         // a local step that is never too old

/// One number as a gradient, and back.
struct Dense {
  using Accumulator = ConditionalAccumulator;
  static Tensor gradient(double x) { return Tensor::of<double>({1}, {x}); }
  static double value(const Tensor& taken) { return taken.to_vector<double>().at(0); }
  /// Of gradients of `one(id, n)`: whose were in it.
  static Tensor one(std::int64_t id, std::int64_t n) {
    Tensor gradient = Tensor::zeros({n}, DType::float64);
    gradient.data<double>()[id] = 1;
    return gradient;
  }
  static std::vector<std::int64_t> ids(const Tensor& taken) {
    std::vector<std::int64_t> found;
    const std::vector<double> values = taken.to_vector<double>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] != 0) found.push_back(static_cast<std::int64_t>(i));
    }
    const double mean = 1. / static_cast<double>(found.size());
    for (const std::int64_t id : found) EXPECT_EQ(values[static_cast<std::size_t>(id)], mean);
    return found;
  }
};

struct Sparse {
  using Accumulator = SparseConditionalAccumulator;
  static SparseGradient row(std::int64_t index, double x) {
    return {Tensor::of<std::int64_t>({1}, {index}), Tensor::of<double>({1, 1}, {x}), {}};
  }
  static SparseGradient gradient(double x) { return row(3, x); }
  static double value(const SparseGradient& taken) { return taken.values.to_vector<double>().at(0); }
  static SparseGradient one(std::int64_t id, std::int64_t) { return row(id, 1); }
  static std::vector<std::int64_t> ids(const SparseGradient& taken) {
    for (const double x : taken.values.to_vector<double>()) EXPECT_EQ(x, 1.) << "each row was in one gradient";
    return taken.indices.to_vector<std::int64_t>();
  }
};

template <class Kind>
class PendingTakes : public ::testing::Test {
 protected:
  using Accumulator = typename Kind::Accumulator;
  using Taken = decltype(std::declval<Accumulator&>().take_grad(1));
  struct Take {
    std::stop_source stop;
    std::future<Taken> result;
  };

  ~PendingTakes() override {
    for (Take& take : takes_) take.stop.request_stop();   // their threads are awaited when they go
  }

  /// Begins a take in a thread of its own; it waits when this returns.
  void begin(std::int64_t n) {
    Take& take = takes_.emplace_back();
    const std::size_t before = accumulator_.num_pending();
    take.result = std::async(std::launch::async,
                             [this, n, stop = take.stop.get_token()] { return accumulator_.take_grad(n, stop); });
    for (const double end = Clock::steady().now() + kLimit; accumulator_.num_pending() == before;) {
      if (Clock::steady().now() > end) throw std::runtime_error("a take does not begin");
      std::this_thread::yield();
    }
  }
  bool apply(double x, std::int64_t step = kFuture) { return accumulator_.apply_grad(Kind::gradient(x), step); }
  /// What take number `i` got. Throws, with what hangs, if it does not end.
  double get(std::size_t i) {
    if (takes_.at(i).result.wait_for(std::chrono::duration<double>(kLimit)) == std::future_status::timeout) {
      throw std::runtime_error("take " + std::to_string(i) + " does not end: " + std::to_string(accumulator_.num_pending()) +
                               " of " + std::to_string(takes_.size()) + " takes wait, " +
                               std::to_string(accumulator_.num_accumulated()) + " gradients are there, the global step is " +
                               std::to_string(accumulator_.global_step()));
    }
    return Kind::value(takes_[i].result.get());
  }

  Accumulator accumulator_{DType::float64, {}, Reduction::mean, kSilent};
  std::deque<Take> takes_;         // last: its threads use the accumulator
};

using Kinds = ::testing::Types<Dense, Sparse>;
TYPED_TEST_SUITE(PendingTakes, Kinds);

TYPED_TEST(PendingTakes, TenTakesOfOneAndTenAppliesBackToBack) {
  for (int i = 0; i < 10; ++i) this->begin(1);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(this->apply(i));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(this->get(static_cast<std::size_t>(i)), i);
  EXPECT_EQ(this->accumulator_.global_step(), 10);
}

TYPED_TEST(PendingTakes, EachGetsTheMeanOfWhatWasThereWhenItsNumberWasReached) {
  for (const int n : {2, 1, 3}) this->begin(n);
  for (const double x : {1., 3., 10., 20., 30., 70.}) EXPECT_TRUE(this->apply(x));
  EXPECT_EQ(this->get(0), 2);
  EXPECT_EQ(this->get(1), 10);
  EXPECT_EQ(this->get(2), 40);
}

TYPED_TEST(PendingTakes, AnApplyHasServedThemWhenItReturns) {
  for (int i = 0; i < 3; ++i) this->begin(1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(this->apply(i));
    EXPECT_EQ(this->accumulator_.num_accumulated(), 0);
    EXPECT_EQ(this->accumulator_.global_step(), i + 1);
    EXPECT_EQ(this->accumulator_.num_pending(), static_cast<std::size_t>(2 - i));
  }
}

TYPED_TEST(PendingTakes, TheStepOfOneTakeMakesTheNextGradientOfItsStepStale) {
  this->begin(1);
  this->begin(1);
  EXPECT_TRUE(this->apply(5, 0));
  EXPECT_FALSE(this->apply(6, 0)) << "the first take has taken place: it is step 1";
  EXPECT_TRUE(this->apply(7, 1));
  EXPECT_EQ(this->get(0), 5);
  EXPECT_EQ(this->get(1), 7);
}

TYPED_TEST(PendingTakes, TheGlobalStepMovesWhileTheyWait) {
  this->begin(2);
  EXPECT_TRUE(this->apply(4, 0));
  this->accumulator_.set_global_step(5);
  EXPECT_EQ(this->accumulator_.num_accumulated(), 1) << "what was accepted stays";
  EXPECT_FALSE(this->apply(100, 4));
  EXPECT_EQ(this->accumulator_.num_pending(), 1u);
  EXPECT_TRUE(this->apply(6, 5));
  EXPECT_EQ(this->get(0), 5);
  EXPECT_EQ(this->accumulator_.global_step(), 6);
  this->accumulator_.set_global_step(2);
  this->begin(1);
  EXPECT_TRUE(this->apply(9, 2));
  EXPECT_EQ(this->get(1), 9);
}

TYPED_TEST(PendingTakes, AGradientThatIsRefusedServesNobody) {
  this->begin(2);
  EXPECT_TRUE(this->apply(1));
  try {
    this->accumulator_.apply_grad(TypeParam::one(0, 7), -1);          // too old, so not even looked at
    constexpr bool dense = std::is_same_v<TypeParam, Dense>;
    if constexpr (dense) this->accumulator_.apply_grad(Tensor::zeros({2}, DType::float64), kFuture);
    else this->accumulator_.apply_grad(Sparse::row(-1, 1), kFuture);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
  }
  EXPECT_EQ(this->accumulator_.num_pending(), 1u);
  EXPECT_TRUE(this->apply(3));
  EXPECT_EQ(this->get(0), 2);
}

TYPED_TEST(PendingTakes, ACancelledOneServesThoseBehindIt) {
  for (const int n : {3, 2, 1}) this->begin(n);
  EXPECT_TRUE(this->apply(1));
  EXPECT_TRUE(this->apply(3));
  this->takes_[0].stop.request_stop();
  EXPECT_EQ(this->get(1), 2);
  EXPECT_THROW(this->get(0), Error);
  EXPECT_TRUE(this->apply(8));
  EXPECT_EQ(this->get(2), 8);
}

unsigned seed_of_run() {
  const char* given = std::getenv("COHORT_TEST_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
  std::cout << "COHORT_TEST_SEED=" << seed << "\n";
  return seed;
}

/// Threads apply and take at random, some takes are cancelled, the global step is moved: each gradient that counted is in
/// exactly one mean, none of the others in any, and no take has fewer than it asked for.
TYPED_TEST(PendingTakes, EachGradientThatCountsIsInExactlyOneMean) {
  constexpr int kWorkers = 3, kTakers = 4, kEach = 40, kRounds = 15;
  constexpr std::int64_t kAll = kWorkers * kEach;
  const unsigned seed = seed_of_run();
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    typename TypeParam::Accumulator accumulator(DType::float64, {}, Reduction::mean, kSilent);
    std::vector<std::atomic<int>> counted(kAll), taken(kAll);
    std::stop_source end;
    std::vector<std::jthread> takers, workers;
    std::atomic<int> takes_that_run = kTakers;
    for (int t = 0; t < kTakers; ++t) {
      takers.emplace_back([&, t] {
        std::mt19937 random(seed + static_cast<unsigned>(1000 * round + t));
        while (!end.stop_requested()) {
          const auto n = static_cast<std::int64_t>(1 + random() % 4);
          std::stop_source mine;
          const std::stop_callback also(end.get_token(), [&] { mine.request_stop(); });
          std::jthread canceller;
          if (random() % 4 == 0) canceller = std::jthread([&mine] { mine.request_stop(); });
          try {
            const std::vector<std::int64_t> ids = TypeParam::ids(accumulator.take_grad(n, mine.get_token()));
            EXPECT_GE(static_cast<std::int64_t>(ids.size()), n);
            for (const std::int64_t id : ids) ++taken[static_cast<std::size_t>(id)];
          } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::cancelled) << error.what();
          }
        }
        --takes_that_run;
      });
    }
    for (int w = 0; w < kWorkers; ++w) {
      workers.emplace_back([&, w] {
        std::mt19937 random(seed + static_cast<unsigned>(1000 * round + 100 + w));
        for (std::int64_t id = w * kEach; id < (w + 1) * kEach; ++id) {
          const std::int64_t step = accumulator.global_step() + static_cast<std::int64_t>(random() % 3) - 1;
          if (accumulator.apply_grad(TypeParam::one(id, kAll), step)) ++counted[static_cast<std::size_t>(id)];
          if (random() % 16 == 0) accumulator.set_global_step(accumulator.global_step() + 1);
        }
      });
    }
    workers.clear();
    end.request_stop();
    for (const double limit = Clock::steady().now() + kLimit; takes_that_run > 0; std::this_thread::yield()) {
      if (Clock::steady().now() > limit) {
        std::cerr << takes_that_run << " of " << kTakers << " takers do not end although they are cancelled; "
                  << accumulator.num_pending() << " takes wait\n";
        std::abort();                    // their threads could not be awaited either
      }
    }
    takers.clear();
    if (accumulator.num_accumulated() > 0) {
      for (const std::int64_t id : TypeParam::ids(accumulator.take_grad(1))) ++taken[static_cast<std::size_t>(id)];
    }
    for (std::size_t id = 0; id < counted.size(); ++id) ASSERT_EQ(taken[id], counted[id]) << "gradient " << id;
  }
}

}  // namespace
}  // namespace cohort
