// Every way of summing gradients over ranks, against a plain loop: which sums a rank gets, their squares, the scalars that travel
// along, and what several batches of an update make together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "exchange/gradient_exchange.hpp"
#include "exchange/layout.hpp"
#include "exchange/node_sharded_reduction.hpp"
#include "exchange/replicated_reduction.hpp"
#include "exchange/zero_streamed_reduction.hpp"
#include "support/patience.hpp"

namespace cohort {
namespace {

using testing::Layout;

struct Way {
  std::string name;
  std::function<ReductionBuilder(NodeGroup*)> builder;
  bool needs_group = false;
  bool by_batch = false;             // sums every batch by itself whatever the options say
};

const std::vector<Way>& ways() {
  static const std::vector<Way> all{
      {.name = "replicated", .builder = [](NodeGroup*) -> ReductionBuilder { return build_reduction<ReplicatedReduction>; }},
      {.name = "node sharded",
       .builder = [](NodeGroup* group) -> ReductionBuilder {
         return [group](const ReductionContext& context) { return std::make_unique<NodeShardedReduction>(context, *group); };
       },
       .needs_group = true},
      {.name = "blocks", .builder = [](NodeGroup*) -> ReductionBuilder { return build_reduction<ZeroStoreReduction>; }},
      {.name = "streamed blocks", .builder = [](NodeGroup*) -> ReductionBuilder { return build_reduction<ZeroStreamedReduction>; }, .by_batch = true}};
  return all;
}

/// Small whole numbers: float sums of them are exact in any order.
float gradient_of(int rank, std::int64_t step, std::int64_t batch, std::size_t parameter, std::int64_t i) {
  const std::int64_t mixed = 7 * i + 13 * static_cast<std::int64_t>(parameter) + 5 * step + 3 * batch;
  return static_cast<float>((rank + 1) * (mixed % 11 - 5));
}

/// The sums over all ranks and batches in the flat index space.
std::vector<double> expected_sums(const ParameterLayout& places, int ranks, std::int64_t step, std::int64_t batches) {
  std::vector<double> flat(static_cast<std::size_t>(places.flat_size()), 0);
  for (std::size_t p = 0; p < places.trained().size(); ++p) {
    for (std::int64_t i = 0; i < places.trained()[p].shape.elements(); ++i) {
      for (int rank = 0; rank < ranks; ++rank) {
        for (std::int64_t batch = 0; batch < batches; ++batch) {
          flat[static_cast<std::size_t>(places.trained()[p].offset + i)] += gradient_of(rank, step, batch, p, i);
        }
      }
    }
  }
  return flat;
}

void take_batch(GradientExchange& exchange, const ParameterLayout& places, int rank, std::int64_t step, std::int64_t batch, bool backwards) {
  const std::size_t all = places.trained().size();
  for (std::size_t at = 0; at < all; ++at) {
    const std::size_t p = backwards ? all - 1 - at : at;
    const Shape& shape = places.trained()[p].shape;
    std::vector<float> values(static_cast<std::size_t>(shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = gradient_of(rank, step, batch, p, static_cast<std::int64_t>(i));
    const Tensor value = Tensor::of(shape, values);
    const GradientStore* const store = exchange.reduction().store();
    if (store != nullptr) store->gradient(p).copy_from(value);
    exchange.ready(p, &value);
    exchange.poll();
  }
}

/// Each of `owners` ranks has these sums, all others none.
void expect_sums(Communicator& c, const Reduction& reduction, const std::vector<double>& expected, double owners) {
  std::vector<double> flat(expected.size(), 0), count(expected.size(), 0);
  for (const GradientRange& mine : reduction.owned()) {
    for (std::int64_t i = 0; i < mine.n; ++i) {
      flat[static_cast<std::size_t>(mine.begin + i)] = mine.gradient[i];
      count[static_cast<std::size_t>(mine.begin + i)] = 1;
    }
  }
  for (std::size_t i = 0; i < flat.size(); ++i) {
    if (count[i] == 0) continue;
    ASSERT_EQ(flat[i], expected[i]) << "element " << i << " on rank " << c.rank();
  }
  all_reduce(c, std::span<double>(count), Reduce::sum);
  for (const double each : count) ASSERT_EQ(each, owners);
  double squares = 0;
  for (const double x : expected) squares += x * x;
  EXPECT_EQ(reduction.sum_of_squares(), squares);
}

struct Trial {
  int ranks = 1;
  std::vector<int> nodes{};
  std::vector<std::int64_t> sizes{};
  std::int64_t batches = 1;
  bool own_thread = false, backwards = false;
  [[nodiscard]] int machines() const { return nodes.empty() ? 1 : *std::ranges::max_element(nodes) + 1; }
};

std::string text_of(const Way& way, const Trial& trial) {
  std::string text = way.name + ", " + std::to_string(trial.ranks) + " ranks, " + std::to_string(trial.batches) + " batches, sizes";
  for (const std::int64_t n : trial.sizes) text += " " + std::to_string(n);
  return text;
}

void run(const Way& way, const Trial& trial) {
  run_as_threads(trial.ranks, [&](Communicator& c) {
    SCOPED_TRACE(text_of(way, trial));
    Layout layout(trial.sizes);
    const ParameterLayout& places = layout.places();
    std::optional<NodeGroup> group;
    if (way.needs_group) group.emplace(c);
    ExchangeOptions options;
    options.first_bucket_mib = 600 * 4.0 / (1 << 20);
    options.bucket_mib = 1500 * 4.0 / (1 << 20);
    options.each_batch = trial.batches > 1;
    GradientExchange exchange(c, places, layout.session().device(), options, way.builder(group ? &*group : nullptr), trial.own_thread);
    EXPECT_EQ(exchange.each_batch(), trial.batches > 1 || way.by_batch);
    if (auto* const streamed = dynamic_cast<ZeroStreamedReduction*>(&exchange.reduction()); streamed != nullptr && trial.backwards) {
      std::vector<std::size_t> order;
      for (std::size_t p = places.trained().size(); p-- > 0;) order.push_back(p);
      streamed->follow(order);
    }
    for (std::int64_t step = 0; step < 3; ++step) {
      exchange.begin(step);
      for (std::int64_t batch = 0; batch < trial.batches; ++batch) {
        take_batch(exchange, places, c.rank(), step, batch, trial.backwards);
        if (batch + 1 < trial.batches) exchange.end_batch();
      }
      const StepScalars sums = exchange.finish({.loss = static_cast<float>(c.rank() + 1), .stop = c.rank() == 0 ? 1.f : 0.f, .metrics = {static_cast<float>(step)}});
      EXPECT_EQ(sums.loss, static_cast<float>(trial.ranks * (trial.ranks + 1) / 2));
      EXPECT_EQ(sums.stop, 1);
      EXPECT_EQ(sums.metrics[0], static_cast<float>(trial.ranks * step));
      EXPECT_EQ(sums.metrics[13], 0);
      const double owners = way.name == "replicated" ? trial.ranks : way.needs_group ? trial.machines() : 1;
      expect_sums(c, exchange.reduction(), expected_sums(places, trial.ranks, step, trial.batches), owners);
      barrier(c);                     // where ranks share the memory, all have looked
    }
  }, {.nodes = trial.nodes, .timeout = testing::kHung});
}

const std::vector<std::vector<std::int64_t>> kSizes{{}, {1}, {1021}, {5, 2000, 1, 257, 256, 1499, 3}};

TEST(Reductions, GiveTheSumsOfAPlainLoop) {
  for (const Way& way : ways()) {
    for (const int ranks : {1, 2, 3, 4}) {
      if (way.needs_group && ranks == 1) continue;             // one rank shares its memory with nobody
      for (const auto& sizes : kSizes) {
        const Trial trial{.ranks = ranks, .sizes = sizes};
        run(way, trial);
      }
    }
  }
}

TEST(Reductions, GiveThemOnSeveralMachines) {
  for (const Way& way : ways()) {
    const Trial trial{.ranks = 4, .nodes = {0, 0, 1, 1}, .sizes = kSizes.back()};
    run(way, trial);
  }
}

TEST(Reductions, AddUpTheBatchesOfAnUpdate) {
  for (const Way& way : ways()) {
    const Trial trial{.ranks = 3, .sizes = kSizes.back(), .batches = 3};
    run(way, trial);
  }
}

TEST(Reductions, TakeGradientsInAnyOrder) {
  for (const Way& way : ways()) {
    const Trial trial{.ranks = 2, .sizes = kSizes.back(), .batches = 2, .backwards = true};
    run(way, trial);
  }
}

TEST(Reductions, MayBeDrivenFromAThreadOfTheirOwn) {
  for (const Way& way : ways()) {
    if (way.by_batch) continue;                                // its buffers are the main thread's
    const Trial trial{.ranks = 2, .sizes = kSizes.back(), .batches = 2, .own_thread = true};
    run(way, trial);
  }
}

TEST(Reductions, SkipASumThatIsNotFiniteOnAllRanks) {
  for (const Way& way : ways()) {
    SCOPED_TRACE(way.name);
    run_as_threads(3, [&](Communicator& c) {
      Layout layout({300, 2000});
      std::optional<NodeGroup> group;
      if (way.needs_group) group.emplace(c);
      GradientExchange exchange(c, layout.places(), layout.session().device(), {}, way.builder(group ? &*group : nullptr));
      exchange.begin(0);
      for (std::size_t p = 0; p < 2; ++p) {
        const Shape& shape = layout.places().trained()[p].shape;
        std::vector<float> values(static_cast<std::size_t>(shape.elements()), 1.f);
        if (c.rank() == 1 && p == 1) values[7] = NAN;
        const Tensor value = Tensor::of(shape, values);
        if (exchange.reduction().store() != nullptr) exchange.reduction().store()->gradient(p).copy_from(value);
        exchange.ready(p, &value);
      }
      (void)exchange.finish({});
      EXPECT_FALSE(std::isfinite(exchange.reduction().sum_of_squares()));
      barrier(c);
    }, {.timeout = testing::kHung});
  }
}

}  // namespace
}  // namespace cohort
