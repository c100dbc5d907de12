// Every registered collective over real MPI.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <span>

#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "comm/collective_checks.hpp"
#include "support/count_allocations.hpp"
#include "support/mpi_world.hpp"
#include "support/patience.hpp"

namespace cohort {
namespace {

using testing::world;

class EveryCollective : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, EveryCollective, ::testing::ValuesIn(Registry<CollectiveType>::instance().names()),
                         [](const auto& parameters) { return parameters.param; });

TEST_P(EveryCollective, Sums) { testing::check_sums(world(), GetParam(), 1 << 20); }
TEST_P(EveryCollective, SumsInShortPieces) { testing::check_sums(world(), GetParam(), 60'000); }
TEST_P(EveryCollective, MismatchIsTheSameErrorEverywhere) { testing::check_mismatches(world(), GetParam()); }
TEST_P(EveryCollective, AbsentRankIsNamed) { testing::check_absent_rank(world(), GetParam()); }
TEST_P(EveryCollective, LossyCodecKeepsItsErrors) { testing::check_lossy_codec(world(), GetParam()); }

TEST_P(EveryCollective, AStepAllocatesNothing) {
  CollectiveOptions options;
  options.algorithm = GetParam();
  options.chunk_bytes = 4096;
  if (!why_not(Registry<CollectiveType>::instance().get(GetParam()), world(), options).empty()) return;
  const auto collective = make_collective(world(), options);
  const Buffer memory = collective->allocate(3 * 40'000);
  std::vector<Work*> works;
  for (int b = 0; b < 3; ++b) {
    float* data = static_cast<float*>(memory.memory.get()) + b * 10'000;
    works.push_back(&collective->all_reduce({.id = b, .data = data, .n = 10'000}));
  }
  const auto step = [&](std::int64_t number) {
    for (Work* work : works) work->start(number);
    for (Work* work : works) work->wait();
  };
  for (std::int64_t warm_up = 0; warm_up < 3; ++warm_up) step(warm_up);
  barrier(world());
  const std::size_t before = testing::allocations();
  for (std::int64_t number = 3; number < 10; ++number) step(number);
  EXPECT_EQ(testing::allocations() - before, 0u);
  barrier(world());
}

TEST(Placements, OfPretendedNodes) {
  for (const auto& node_of : std::vector<std::vector<int>>{{0, 1, 1, 1}, {0, 1, 0, 1}}) {
    Communicator c = world().duplicate();
    c.force_nodes(NodeMap(std::span(node_of).first(static_cast<std::size_t>(c.size()))));
    testing::check_placement(c);
    testing::check_rank_order(c);
    testing::check_lossy_codec(c, "hierarchical");
  }
}

TEST(Auto, Measures) {
  Communicator c = world().duplicate();
  c.set_timeout(testing::kHung);
  std::vector<int> labels(static_cast<std::size_t>(c.size()));
  for (std::size_t rank = 0; rank < labels.size(); ++rank) labels[rank] = static_cast<int>(rank / 2);
  c.force_nodes(NodeMap(labels));
  const double start = c.context().clock->now();
  const NetworkConstants n = measure_network(c, {});
  const double seconds = all_reduce(c, c.context().clock->now() - start, Reduce::max);
  if (c.rank() == 0) std::printf("measured the network in %.0f ms\n", 1e3 * seconds);   // more where others want the cores
  EXPECT_EQ(n.between.known(), c.nodes().nodes() > 1);
  EXPECT_EQ(n.within.known(), c.size() > 1);
}

TEST(Auto, TakesSharedMemoryOnOneMachine) { EXPECT_EQ(make_collective(world(), {})->algorithm(), "shared_memory"); }

}  // namespace
}  // namespace cohort
