// Every registered collective on ranks that are threads: a new file in collectives/ is tested by being there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>

#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "comm/collective_checks.hpp"
#include "support/patience.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> collectives_for_threads() {
  std::vector<std::string> names;
  for (const auto& [name, entry] : Registry<CollectiveType>::instance().entries()) {
    if (entry.value.thread_ranks) names.push_back(name);
  }
  return names;
}

class EveryCollective : public ::testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  [[nodiscard]] std::string algorithm() const { return std::get<0>(GetParam()); }
  [[nodiscard]] int ranks() const { return std::get<1>(GetParam()); }
};
class EveryCollectiveOnFew : public EveryCollective {};   // where a few ranks show it

std::string name_of(const ::testing::TestParamInfo<std::tuple<std::string, int>>& parameters) {
  return std::get<0>(parameters.param) + "_" + std::to_string(std::get<1>(parameters.param)) + "_ranks";
}
auto collectives_on(int least, int most) {
  return ::testing::Combine(::testing::ValuesIn(collectives_for_threads()), ::testing::Range(least, most + 1));
}
INSTANTIATE_TEST_SUITE_P(All, EveryCollective, collectives_on(1, 9), name_of);
INSTANTIATE_TEST_SUITE_P(All, EveryCollectiveOnFew, collectives_on(2, 4), name_of);

TEST_P(EveryCollective, Sums) {
  run_as_threads(ranks(), [&](Communicator& c) { testing::check_sums(c, algorithm(), 1 << 20); });
}

TEST_P(EveryCollectiveOnFew, SumsInShortPieces) {
  run_as_threads(ranks(), [&](Communicator& c) { testing::check_sums(c, algorithm(), 60'000); });
}

TEST_P(EveryCollective, MismatchIsTheSameErrorEverywhere) {
  run_as_threads(ranks(), [&](Communicator& c) { testing::check_mismatches(c, algorithm()); });
}

TEST_P(EveryCollectiveOnFew, AbsentRankIsNamed) {
  run_as_threads(ranks(), [&](Communicator& c) { testing::check_absent_rank(c, algorithm()); });
}

TEST_P(EveryCollective, LossyCodecKeepsItsErrors) {
  run_as_threads(ranks(), [&](Communicator& c) { testing::check_lossy_codec(c, algorithm()); });
}

TEST_P(EveryCollectiveOnFew, ARankThatThrowsFreesTheOthers) {
  const auto body = [&](Communicator& c) {
    std::vector<float> data(5000, 1.f);   // outlives the collective, whose messages may still be on their way
    const auto collective = make_collective(c, [&] { CollectiveOptions o; o.algorithm = algorithm(); return o; }());
    Work& work = collective->all_reduce({.data = data.data(), .n = data.size()});
    for (std::int64_t step = 0; step < 10; ++step) {
      if (step == 3 && c.rank() == c.size() - 1) throw std::runtime_error("no more data");
      work.start(step);
      work.wait();
    }
  };
  try {
    run_as_threads(ranks(), body);
    ADD_FAILURE() << "the error was lost";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "no more data");
  }
}

/// Nodes of unequal sizes, one rank on each, and ranks that are dealt out in turn.
class Placements : public ::testing::TestWithParam<std::vector<int>> {};
INSTANTIATE_TEST_SUITE_P(All, Placements,
                         ::testing::Values(std::vector{0, 0, 1}, std::vector{0, 1, 0, 1}, std::vector{0, 1, 1, 1}, std::vector{0, 1, 2, 3},
                                           std::vector{0, 0, 0, 1, 1}, std::vector{0, 0, 1, 1, 2, 2}, std::vector{2, 0, 1, 0, 1, 0, 2},
                                           std::vector{0, 0, 0, 0, 1, 1, 1, 2, 2}));

TEST_P(Placements, Sums) {
  run_as_threads(static_cast<int>(GetParam().size()), testing::check_placement, {.nodes = GetParam()});
}
TEST_P(Placements, RankOrderIsOneResult) {
  run_as_threads(static_cast<int>(GetParam().size()), testing::check_rank_order, {.nodes = GetParam()});
}
TEST_P(Placements, LossyCodecKeepsItsErrors) {
  for (const std::string& name : collectives_for_threads()) {
    run_as_threads(static_cast<int>(GetParam().size()), [&](Communicator& c) { testing::check_lossy_codec(c, name); },
                   {.nodes = GetParam()});
  }
}
TEST_P(Placements, MismatchIsTheSameErrorEverywhere) {
  run_as_threads(static_cast<int>(GetParam().size()), [](Communicator& c) { testing::check_mismatches(c, "hierarchical"); },
                 {.nodes = GetParam()});
}

TEST(RankOrder, IsOneResultOnOneNode) {
  for (const int ranks : {2, 5}) run_as_threads(ranks, testing::check_rank_order);
}

NetworkConstants network_of(double latency_us, double gbs) {
  NetworkConstants n;
  n.within = {.latency = 5e-7, .seconds_per_byte = 1e-10};
  n.between = {.latency = latency_us * 1e-6, .seconds_per_byte = 1e-9 / gbs};
  n.sum_seconds_per_byte = 1e-10;
  return n;
}

/// What is chosen, in words.
std::string chosen(int ranks, const std::vector<int>& nodes, const CollectiveOptions& options) {
  std::string text;
  run_as_threads(
      ranks, [&](Communicator& c) {
        const auto collective = make_collective(c, options);
        const std::vector<std::string> all = all_gather(c, collective->describe());
        for (const std::string& each : all) EXPECT_EQ(each, all[0]);
        if (c.rank() == 0) text = collective->describe();
      },
      {.nodes = nodes});
  return text;
}

std::string refusal(int ranks, const std::vector<int>& nodes, const CollectiveOptions& options) {
  try {
    return "made " + chosen(ranks, nodes, options);
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Auto, TakesWhatTheModelSays) {
  EXPECT_THAT(chosen(3, {}, {}), HasSubstr("shared_memory (auto"));
  CollectiveOptions options;
  options.network = network_of(5, 12.5);
  // Four nodes of one rank: few messages while they are short, then the fewest bytes.
  EXPECT_THAT(chosen(4, {0, 1, 2, 3}, options), ::testing::MatchesRegex("auto .*: recursive_doubling up to [0-9]+ KiB.*"));
  EXPECT_THAT(chosen(8, {0, 0, 0, 0, 1, 1, 1, 1}, options), ::testing::MatchesRegex(".*hierarchical.*"));
  options.rank_order = true;
  EXPECT_THAT(chosen(3, {0, 0, 1}, options), HasSubstr("direct (auto"));
}

TEST(Auto, ServesEveryBucketByItsSizeAndDrivesAllOfThem) {
  CollectiveOptions options;
  options.network = network_of(50, 1);
  run_as_threads(
      8, [&](Communicator& c) {
        std::vector<float> few(100, 1.f), many(1 << 20, 2.f);
        const auto collective = make_collective(c, options);
        Work* small = &collective->all_reduce({.id = 0, .data = few.data(), .n = few.size()});
        Work* large = &collective->all_reduce({.id = 1, .data = many.data(), .n = many.size()});
        EXPECT_EQ(small->algorithm(), "recursive_doubling");
        EXPECT_NE(large->algorithm(), "recursive_doubling");
        EXPECT_EQ(large->algorithm(), estimates(c, options, many.size() * 4).front().algorithm);
        small->start(0);
        large->start(0);
        if (c.rank() % 2 == 1) std::swap(small, large);
        small->wait();   // some ranks wait for the one first, some for the other
        large->wait();
        EXPECT_EQ(few[99], 8.f);
        EXPECT_EQ(many[99], 16.f);
      },
      {.nodes = {0, 1, 2, 3, 4, 5, 6, 7}});
}

TEST(Auto, RanksWithOtherBucketsGetAnErrorNotAHang) {
  CollectiveOptions options;
  options.network = network_of(50, 1);
  const auto body = [&](Communicator& c) {
    std::vector<float> data(c.rank() == 1 ? 1 << 20 : 100);
    const auto collective = make_collective(c, options);
    (void)collective->all_reduce({.id = 0, .data = data.data(), .n = data.size()});
  };
  EXPECT_THROW(run_as_threads(4, body, {.nodes = {0, 1, 2, 3}, .timeout = testing::patient(10)}), Error);
}

TEST(Auto, MeasuresAndAllRanksGetTheSame) {
  run_as_threads(
      4, [](Communicator& c) {
        const NetworkConstants n = measure_network(c, {});
        EXPECT_TRUE(n.within.known());
        EXPECT_TRUE(n.between.known());
        EXPECT_GT(n.sum_seconds_per_byte, 0);
        const std::vector<std::string> texts = all_gather(c, n.text());
        for (const std::string& text : texts) EXPECT_EQ(text, texts[0]);
        NetworkConstants given;
        given.between.latency = 0.25;
        EXPECT_EQ(measure_network(c, given).between.latency, 0.25);
      },
      {.nodes = {0, 0, 1, 1}});
}

// Milliseconds for 5 µs and 12.5 GB/s, worked out from the formulas in the literature (Thakur, Rabenseifner, Gropp,
// "Optimization of collective communication operations in MPICH", 2005), without the time for sums.
TEST(Cost, IsThatOfTheLiterature) {
  struct Expected {
    int ranks;
    double bytes, doubling, halving, ring;
  };
  for (const Expected& e : {Expected{8, 1e4, .017, .031, .071}, Expected{8, 1e8, 24, 14.0, 14.1}, Expected{64, 1e6, .51, .22, .79},
                            Expected{512, 1e5, .12, .11, 5.1}, Expected{512, 1e8, 72, 16.1, 21.1}}) {
    NetworkConstants network = network_of(5, 12.5);
    network.sum_seconds_per_byte = 0;
    std::vector<int> labels(static_cast<std::size_t>(e.ranks));
    std::iota(labels.begin(), labels.end(), 0);
    const NodeMap nodes(labels);
    CostQuery query;
    query.bytes = e.bytes;
    query.nodes = &nodes;
    query.network = &network;
    const auto ms = [&](const char* name) { return 1e3 * Registry<CollectiveType>::instance().get(name).cost(query); };
    EXPECT_NEAR(ms("recursive_doubling"), e.doubling, e.doubling * 0.05) << e.ranks << " ranks, " << e.bytes;
    EXPECT_NEAR(ms("recursive_halving"), e.halving, e.halving * 0.05) << e.ranks << " ranks, " << e.bytes;
    EXPECT_NEAR(ms("ring"), e.ring, e.ring * 0.05) << e.ranks << " ranks, " << e.bytes;
  }
}

TEST(Cost, RanksOfANodeShareItsLine) {
  const NodeMap nodes(std::vector{0, 0, 0, 0, 1, 1, 1, 1});
  const NetworkConstants network = network_of(1, 1);
  CostQuery query;
  query.nodes = &nodes;
  query.network = &network;
  const double one = query.round(1e6, [](int rank) { return (rank + 1) % 8; });   // one rank of each node sends out
  const double four = query.round(1e6, [](int rank) { return (rank + 4) % 8; });
  EXPECT_NEAR(one, 1.001e-3, 1e-9);
  EXPECT_NEAR(four, 4.001e-3, 1e-9);
}

TEST(Auto, RefusesWithTheReason) {
  CollectiveOptions options;
  options.algorithm = "shared_memory";
  EXPECT_THAT(refusal(3, {0, 0, 1}, options), HasSubstr("it works within one node, here are 3 ranks on 2 nodes: 0 1 | 2"));
  options.algorithm = "mpi";
  EXPECT_THAT(refusal(2, {}, options), HasSubstr("'mpi' cannot be used: it needs MPI"));
  options.algorithm = "rign";
  EXPECT_THAT(refusal(2, {}, options), HasSubstr("unknown collective 'rign', did you mean 'ring'?"));
  options.algorithm = "ring";
  options.rank_order = true;
  EXPECT_THAT(refusal(3, {}, options), HasSubstr("rank order"));
  EXPECT_EQ(refusal(2, {}, options), "made ring");   // a + b = b + a
  options.rank_order = false;
  options.algorithm = options.inter = "hierarchical";
  EXPECT_THAT(refusal(2, {}, options), HasSubstr("inter must name another algorithm"));
  options.codec_name = "fp31";
  EXPECT_THAT(refusal(2, {}, options), HasSubstr("unknown codec 'fp31'"));
}

TEST(Blocks, CoverEverythingOnceAndEvenly) {
  for (const std::size_t n : {0u, 1u, 255u, 256u, 257u, 1000u, 100'000u, 1'048'577u}) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      std::size_t next = 0, least = n, most = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Block block = block_of(rank, ranks, n);
        EXPECT_EQ(block.begin, next);
        next = block.end();
        least = std::min(least, block.size);
        most = std::max(most, block.size);
      }
      EXPECT_EQ(next, n);
      EXPECT_LE(most - least, 511u) << n << " over " << ranks;
    }
  }
}

}  // namespace
}  // namespace cohort
