// Every codec in every collective: the same bits everywhere, nothing lost with error feedback, as few bytes and as few
// roundings as promised, and errors that depend on the number of ranks as the theory says.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "comm/counting_transport.hpp"
#include "comm/model_gradients.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr bool kBrief = COHORT_BRIEF;   // a sanitizer's build
constexpr std::uint64_t kSeed = 7;

/// Normal numbers, other ones for each stream.
float normal(std::size_t stream, std::size_t i) {
  static const std::vector<float> table = [] {
    std::vector<float> all(8191);
    for (std::size_t k = 0; k < all.size(); ++k) all[k] = random_normal(kSeed, 1, k);
    return all;
  }();
  return table[(i * 31 + stream * 977) % table.size()];
}

std::vector<std::string> lossy_codecs() {
  std::vector<std::string> names;
  for (const std::string& name : Registry<CodecType>::instance().names()) {
    Section section;
    if (!Registry<CodecType>::instance().get(name).make(section)->exact()) names.push_back(name);
  }
  return names;
}

std::vector<std::string> collectives_for_codecs() {
  std::vector<std::string> names;
  for (const auto& [name, entry] : Registry<CollectiveType>::instance().entries()) {
    if (entry.value.thread_ranks && entry.value.lossy_codecs) names.push_back(name);
  }
  return names;
}

/// One rank on each node.
std::vector<int> apart(int ranks) {
  std::vector<int> labels(static_cast<std::size_t>(ranks));
  std::iota(labels.begin(), labels.end(), 0);
  return labels;
}

NetworkConstants some_network() {
  NetworkConstants n;
  n.within = {.latency = 1e-6, .seconds_per_byte = 1 / 10e9};
  n.between = {.latency = 5e-6, .seconds_per_byte = 1 / 12.5e9};
  n.sum_seconds_per_byte = 1 / 20e9;
  return n;
}

CollectiveOptions options_of(const std::string& algorithm, const std::string& codec, std::int64_t chunk_bytes = 1 << 20) {
  CollectiveOptions options;
  options.algorithm = algorithm;
  options.codec_name = codec;
  options.chunk_bytes = chunk_bytes;
  options.network = some_network();
  return options;
}

void expect_same_on_all_ranks(Communicator& c, const std::vector<float>& x, const std::string& where) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const float each : x) hash = (hash ^ std::bit_cast<std::uint32_t>(each)) * 1099511628211ull;
  for (const std::uint64_t other : all_gather_value(c, hash)) ASSERT_EQ(other, hash) << where << ": not the same bits on all ranks";
}

/// Σ over ranks of (gradient + residual before) = result + Σ of residuals after, within 1e-6 of what was added up.
void check_conservation(Communicator& c, const std::string& algorithm, const std::string& codec, std::size_t n) {
  const auto collective = make_collective(c, options_of(algorithm, codec, 4096));
  std::vector<float> data(n), residual(n, 0.f);
  Work& work = collective->all_reduce({.id = 3, .data = data.data(), .n = n, .residual = residual.data()});
  for (std::int64_t step = 0; step < 2; ++step) {
    const std::string where = fmt::format("{} with {}, {} ranks, {} floats, step {}", algorithm, codec, c.size(), n, step);
    std::vector<double> sums(3 * n);                     // before, after, and how much was added up
    for (std::size_t i = 0; i < n; ++i) {
      data[i] = normal(static_cast<std::size_t>(c.rank() + 100 * step), i);
      sums[i] = static_cast<double>(data[i]) + static_cast<double>(residual[i]);
      sums[2 * n + i] = std::fabs(sums[i]);
    }
    work.start(step);
    work.wait();
    for (std::size_t i = 0; i < n; ++i) sums[n + i] = static_cast<double>(residual[i]);
    all_reduce(c, sums, Reduce::sum);
    double worst = 0, kept = 0;
    for (std::size_t i = 0; i < n; ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(data[i]) + sums[n + i] - sums[i]) / (sums[2 * n + i] + 1e-3));
      kept = std::max(kept, std::fabs(sums[n + i]));
    }
    ASSERT_LT(worst, 1e-6) << where;
    const bool travels = c.nodes().nodes() > 1 || (c.size() > 1 && algorithm != "hierarchical");
    if (travels && n > 100) { ASSERT_GT(kept, 1e-6) << where << ": nothing was lost: was the codec used?"; }
    expect_same_on_all_ranks(c, data, where);
  }
}

/// Without feedback: each operation gives the same bits to all who get them, and one bad element reaches everybody.
void check_operations(Communicator& c, const std::string& algorithm, const std::string& codec) {
  constexpr std::size_t kN = 2000, kBad = 1234;
  const auto collective = make_collective(c, options_of(algorithm, codec, 2048));
  std::vector<float> data(kN);
  const std::string where = fmt::format("{} with {}, {} ranks", algorithm, codec, c.size());
  const auto fill = [&](std::size_t stream) {
    for (std::size_t i = 0; i < kN; ++i) data[i] = normal(stream + static_cast<std::size_t>(c.rank()), i);
  };
  Work& gather = collective->all_gather({.id = 1, .data = data.data(), .n = kN});
  fill(10);
  gather.start(0);
  gather.wait();
  expect_same_on_all_ranks(c, data, where + ", all_gather");
  Work& reduce = collective->all_reduce({.id = 2, .data = data.data(), .n = kN});
  fill(20);
  reduce.start(0);
  reduce.wait();
  const std::vector<float> sums = data;
  fill(20);
  if (c.rank() == c.size() - 1) data[kBad] = std::numeric_limits<float>::quiet_NaN();
  reduce.start(1);
  reduce.wait();
  EXPECT_TRUE(std::isnan(data[kBad])) << where;
  EXPECT_EQ(data[0], sums[0]) << where << ": a bad element spoils another block";
  Work& scatter = collective->reduce_scatter({.id = 4, .data = data.data(), .n = kN});
  fill(20);
  scatter.start(0);
  scatter.wait();
  const Block mine = collective->block(c.rank(), kN);
  double error = 0, norm = 0;
  for (std::size_t i = mine.begin; i < mine.end(); ++i) {
    double exact = 0;
    for (int r = 0; r < c.size(); ++r) exact += static_cast<double>(normal(20 + static_cast<std::size_t>(r), i));
    error += (static_cast<double>(data[i]) - exact) * (static_cast<double>(data[i]) - exact);
    norm += exact * exact;
  }
  EXPECT_LE(std::sqrt(error), 0.04 * std::sqrt(norm)) << where << ", reduce_scatter";
}

class CodecInCollective : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  [[nodiscard]] std::string algorithm() const { return std::get<0>(GetParam()); }
  [[nodiscard]] std::string codec() const { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(All, CodecInCollective,
                         ::testing::Combine(::testing::ValuesIn(collectives_for_codecs()), ::testing::ValuesIn(lossy_codecs())),
                         [](const auto& p) { return std::get<0>(p.param) + "_" + std::get<1>(p.param); });

TEST_P(CodecInCollective, LosesNothingAndGivesTheSameBits) {
  for (int ranks = 1; ranks <= (kBrief ? 5 : 9); ++ranks) {
    run_as_threads(ranks, [&](Communicator& c) {
      check_conservation(c, algorithm(), codec(), 3000);
      if (ranks <= 4) {
        for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{257}}) check_conservation(c, algorithm(), codec(), n);
      }
    }, {.nodes = apart(ranks), .log = LogLevel::error});
  }
}

TEST_P(CodecInCollective, LosesNothingOnNodesOfSeveralRanks) {
  for (const std::vector<int>& nodes : {std::vector{0, 0, 1, 1}, std::vector{0, 0, 0, 1, 1}, std::vector{2, 0, 1, 0, 1, 0, 2}}) {
    run_as_threads(static_cast<int>(nodes.size()), [&](Communicator& c) { check_conservation(c, algorithm(), codec(), 3000); },
                   {.nodes = nodes, .log = LogLevel::error});
  }
}

TEST_P(CodecInCollective, EveryOperation) {
  for (const int ranks : {1, 3, 4}) {
    run_as_threads(ranks, [&](Communicator& c) { check_operations(c, algorithm(), codec()); }, {.nodes = apart(ranks), .log = LogLevel::error});
  }
}

std::int64_t bytes_sent(const std::string& algorithm, const std::string& codec, const std::vector<int>& nodes) {
  constexpr std::size_t kN = 3u << 16;
  const auto bytes = std::make_shared<std::atomic<std::int64_t>>(0);
  std::int64_t result = 0;
  run_as_threads(static_cast<int>(nodes.size()), [&](Communicator& c) {
    Communicator counted = testing::counting(c, bytes);
    const auto collective = make_collective(counted, options_of(algorithm, codec));
    const Buffer memory = collective->allocate(kN * sizeof(float));
    Work& work = collective->all_reduce({.data = static_cast<float*>(memory.memory.get()), .n = kN});
    barrier(c);
    const std::int64_t before = bytes->load();
    barrier(c);
    work.start(0);
    work.wait();
    barrier(c);
    if (c.rank() == 0) result = bytes->load() - before;
  }, {.nodes = nodes, .log = LogLevel::error});
  return result;
}

TEST(CodecBytes, AreAsFewAsPromised) {
  if (kBrief) GTEST_SKIP() << "a sanitizer sees nothing in it that is not in the tests above";
  for (const std::string& algorithm : collectives_for_codecs()) {
    for (const std::vector<int>& nodes : {std::vector{0, 1}, std::vector{0, 1, 2}, std::vector{0, 0, 1, 1}}) {
      const auto fp32 = static_cast<double>(bytes_sent(algorithm, "fp32", nodes));
      for (const auto& [codec, most] : {std::pair{"bf16", 0.51}, std::pair{"fp16", 0.51}, std::pair{"int8", 0.26}}) {
        const auto sent = static_cast<double>(bytes_sent(algorithm, codec, nodes));
        EXPECT_LE(sent, most * fp32) << algorithm << " with " << codec << " on " << nodes.size() << " ranks";
        EXPECT_GE(sent, (most - 0.02) * fp32) << algorithm << " with " << codec << ": did everything travel?";
      }
    }
  }
}

/// Doubles everything whenever it is encoded, so that a result tells how often that was done to a contribution.
class Doubling final : public Codec {
 public:
  std::size_t wire_bytes(std::size_t n) const override { return n * sizeof(float); }
  void encode(const float* x, std::size_t n, std::byte* wire, float*, const ExchangeContext&) const override {
    for (std::size_t i = 0; i < n; ++i) {
      const float twice = 2 * x[i];
      std::memcpy(wire + i * sizeof(float), &twice, sizeof twice);
    }
  }
  void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how, const ExchangeContext&) const override {
    for (std::size_t i = 0; i < n; ++i) {
      float came;
      std::memcpy(&came, wire + i * sizeof(float), sizeof came);
      x[i] = (how == Accumulate::add ? x[i] : 0.f) + came;
    }
  }
  bool exact() const noexcept override { return false; }
};

int most_roundings(const std::string& algorithm, int ranks) {
  int most = 0;
  std::mutex mutex;
  run_as_threads(ranks, [&](Communicator& c) {
    constexpr std::size_t kN = 4000;
    CollectiveOptions options = options_of(algorithm, "doubling", 2048);
    options.codec = std::make_shared<Doubling>();
    const auto collective = make_collective(c, options);
    std::vector<float> data(kN);
    Work& work = collective->all_reduce({.data = data.data(), .n = kN});
    for (int source = 0; source < c.size(); ++source) {
      std::fill(data.begin(), data.end(), c.rank() == source ? 1.f : 0.f);
      work.start(source);
      work.wait();
      const std::lock_guard lock(mutex);
      for (const float x : data) most = std::max(most, static_cast<int>(std::lround(std::log2(x))));
    }
  }, {.nodes = apart(ranks), .log = LogLevel::error});
  return most;
}

TEST(Roundings, AreFew) {
  for (int ranks = 2; ranks <= 9; ++ranks) {
    const int rounds = static_cast<int>(std::bit_width(static_cast<unsigned>(ranks - 1)));      // log2, rounded up
    EXPECT_EQ(most_roundings("direct", ranks), 2);
    EXPECT_LE(most_roundings("recursive_halving", ranks), rounds + 1) << ranks << " ranks";
    EXPECT_EQ(most_roundings("ring", ranks), ranks) << "a hop each, and once for the result";
  }
}

std::string chosen(const std::vector<int>& nodes, const CollectiveOptions& options, std::vector<std::string>* warnings = nullptr) {
  std::string text;
  std::mutex mutex;
  run_as_threads(static_cast<int>(nodes.size()), [&](Communicator& c) {
    Context context = c.context();
    context.log = Log("", LogLevel::warning, [&](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex);
      if (warnings != nullptr) warnings->emplace_back(line);
    });
    std::vector<int> all = apart(c.size());
    Communicator logged(c.transport().subgroup(all, 29'998), context, c.nodes(), c.cancel_flag());
    const auto collective = make_collective(logged, options);
    if (c.rank() == 0) text = collective->describe();
  }, {.nodes = nodes});
  return text;
}

TEST(Auto, TakesExactFloatsWithinANode) {
  for (const std::string& codec : lossy_codecs()) {
    EXPECT_THAT(chosen({0, 0, 0}, options_of("auto", codec)), HasSubstr("shared_memory (auto: all ranks are on one node, where exact floats are faster than " + codec));
  }
}

TEST(Auto, NeverTakesARingForLossyCodecs) {
  for (const std::string& codec : lossy_codecs()) {
    for (const std::vector<int>& nodes : {apart(3), apart(8), std::vector{0, 0, 1, 1, 2, 2}}) {
      for (const double slow : {1.0, 1e-3}) {            // with next to no latency a ring's bytes count alone
        CollectiveOptions options = options_of("auto", codec);
        options.network.between.latency *= slow;
        EXPECT_THAT(chosen(nodes, options), Not(HasSubstr("ring")));
      }
    }
  }
}

TEST(Ring, WarnsOnceOfALossyCodec) {
  std::vector<std::string> warnings;
  (void)chosen(apart(4), options_of("ring", "int8"), &warnings);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("with codec int8 the error grows with the square root of the number of ranks"));
  (void)chosen(apart(4), options_of("ring", "fp32"), &warnings);
  (void)chosen(apart(4), options_of("direct", "int8"), &warnings);
  EXPECT_EQ(warnings.size(), 1u);
}

TEST(Lossy, IsRefusedWhereNothingIsEncoded) {
  for (const std::string algorithm : {"shared_memory", "recursive_doubling"}) {
    const auto make = [&] { (void)chosen({0, 0, 0}, options_of(algorithm, "int8")); };
    try {
      make();
      ADD_FAILURE() << algorithm << " took int8";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::failed_precondition);
      EXPECT_THAT(error.what(), HasSubstr("it does not send through a codec, and int8 is not exact")) << algorithm;
    }
  }
}

/// Relative error (L2) of one all-reduce of a real model's gradients.
double error_of(const std::string& algorithm, const std::string& codec, int ranks) {
  const auto& gradients = testing::model_gradients();
  const std::size_t n = gradients[0].size();
  double result = 0;
  run_as_threads(ranks, [&](Communicator& c) {
    const auto collective = make_collective(c, options_of(algorithm, codec));
    std::vector<float> data = gradients[static_cast<std::size_t>(c.rank())];
    Work& work = collective->all_reduce({.data = data.data(), .n = n});
    work.start(0);
    work.wait();
    if (c.rank() != 0) return;
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double exact = 0;
      for (int r = 0; r < ranks; ++r) exact += static_cast<double>(gradients[static_cast<std::size_t>(r)][i]);
      error += (static_cast<double>(data[i]) - exact) * (static_cast<double>(data[i]) - exact);
      norm += exact * exact;
    }
    result = std::sqrt(error / norm);
  }, {.nodes = apart(ranks), .log = LogLevel::error});
  return result;
}

/// Slope of log error over log ranks, by least squares.
double slope_of(const std::vector<std::pair<int, double>>& errors) {
  double x = 0, y = 0, xx = 0, xy = 0;
  const auto n = static_cast<double>(errors.size());
  for (const auto& [ranks, error] : errors) {
    const double a = std::log(ranks), b = std::log(error);
    x += a, y += b, xx += a * a, xy += a * b;
  }
  return (n * xy - x * y) / (n * xx - x * x);
}

TEST(ErrorOfRealGradients, IsFlatButForTheRing) {
  if (kBrief) GTEST_SKIP() << "a sanitizer sees nothing in it that is not in the tests above";
  if (!testing::has_fashion_mnist()) GTEST_SKIP() << "install the Debian package dataset-fashion-mnist";
  std::map<std::string, std::vector<std::pair<int, double>>> errors;
  for (const std::string algorithm : {"direct", "recursive_halving", "ring"}) {
    for (const int ranks : {2, 8, 16, 32, 64}) errors[algorithm].emplace_back(ranks, error_of(algorithm, "int8", ranks));
  }
  std::string table;
  for (const auto& [algorithm, all] : errors) {
    table += "\n" + algorithm + ":";
    for (const auto& [ranks, error] : all) table += fmt::format(" {}: {:.2f} %", ranks, 100 * error);
    table += fmt::format("; slope {:.2f}", slope_of(all));
  }
  SCOPED_TRACE(table);
  RecordProperty("errors", table);
  EXPECT_LT(std::fabs(slope_of(errors["direct"])), 0.1);
  EXPECT_LT(std::fabs(slope_of(errors["recursive_halving"])), 0.1);
  std::vector<std::pair<int, double>> ring = errors["ring"];
  ring.erase(ring.begin(), ring.begin() + 2);            // with few ranks the rounding of the result counts as well
  EXPECT_GT(slope_of(ring), 0.4);
  EXPECT_LT(slope_of(ring), 0.6);
  EXPECT_GT(errors["ring"].back().second, 3 * errors["direct"].back().second);
  for (const std::string algorithm : {"direct", "recursive_halving"}) {
    for (const auto& [ranks, error] : errors[algorithm]) {
      EXPECT_GT(error, 0.007) << algorithm << ", " << ranks;     // such gradients give 1.2 to 2.3 % in a pilot
      EXPECT_LT(error, 0.025) << algorithm << ", " << ranks;
    }
  }
  EXPECT_LT(error_of("direct", "bf16", 8), 0.003);
}

}  // namespace
}  // namespace cohort
