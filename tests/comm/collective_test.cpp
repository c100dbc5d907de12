// Every registered collective on ranks that are threads: a new file in collectives/ is tested by being there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "comm/collective_checks.hpp"

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

std::string chosen(int ranks, const std::vector<int>& nodes, CollectiveOptions options) {
  std::string name;
  run_as_threads(
      ranks, [&](Communicator& c) {
        const auto collective = make_collective(c, options);
        if (c.rank() == 0) name = collective->algorithm();
      },
      {.nodes = nodes});
  return name;
}

std::string refusal(int ranks, const std::vector<int>& nodes, const CollectiveOptions& options) {
  try {
    return "made " + chosen(ranks, nodes, options);
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Auto, TakesWhatFits) {
  EXPECT_EQ(chosen(3, {}, {}), "shared_memory");
  EXPECT_EQ(chosen(3, {0, 0, 1}, {}), "ring");
  CollectiveOptions options;
  options.rank_order = true;
  EXPECT_EQ(chosen(3, {0, 0, 1}, options), "direct");
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
