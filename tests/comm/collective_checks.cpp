#include "comm/collective_checks.hpp"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"
#include "support/patience.hpp"

namespace cohort::testing {
namespace {

using ::testing::HasSubstr;

constexpr bool kBrief = COHORT_BRIEF;   // a sanitizer's build: as many pieces and starts again as it can learn from
constexpr std::array<std::size_t, 7> kSizes{0, 1, 5, 1000, (1u << (kBrief ? 14 : 20)) + 1, 257, kBrief ? 5003 : 20'011};
constexpr std::int64_t kSteps = kBrief ? 2 : 4;
constexpr std::int64_t in_brief(std::int64_t chunk_bytes) { return kBrief ? chunk_bytes / 64 : chunk_bytes; }

/// The input of a rank: any float in [-1, 1), different everywhere and every step.
float value_of(int rank, int bucket, std::int64_t step, std::size_t i) {
  const auto stream = static_cast<std::uint64_t>(rank * 1000 + bucket * 100 + step + 1);
  std::uint64_t h = i * 0x9E3779B97F4A7C15ull + stream * 0xD1B54A32D192ED03ull;
  h = (h ^ (h >> 31)) * 0xBF58476D1CE4E5B9ull;
  return static_cast<float>(static_cast<std::int32_t>(h >> 32)) * 0x1p-31f;
}

std::uint64_t hash_of(const float* data, std::size_t n) {
  std::uint64_t hash = 14695981039346656037ull;
  for (std::size_t i = 0; i < n; ++i) hash = (hash ^ std::bit_cast<std::uint32_t>(data[i])) * 1099511628211ull;
  return hash;
}

CollectiveOptions options_of(const std::string& algorithm, std::int64_t chunk_bytes = 1 << 20) {
  CollectiveOptions options;
  options.algorithm = algorithm;
  options.chunk_bytes = chunk_bytes;
  return options;
}

/// Constants of some network, so that nothing is measured: 100 Gb/s between nodes.
const NetworkConstants kTestNetwork = [] {
  NetworkConstants n;
  n.within = {.latency = 1e-6, .seconds_per_byte = 1 / 10e9};
  n.between = {.latency = 5e-6, .seconds_per_byte = 1 / 12.5e9};
  n.sum_seconds_per_byte = 1 / 20e9;
  return n;
}();

bool fits(const Communicator& c, const std::string& algorithm) {
  return why_not(Registry<CollectiveType>::instance().get(algorithm), c, CollectiveOptions{}).empty();
}

/// Buckets of all sizes: the even ones together in memory of the collective, the odd ones in plain memory.
struct Buckets {
  explicit Buckets(Collective& collective) {
    std::size_t floats = 0;
    for (std::size_t b = 0; b < kSizes.size(); b += 2) floats += kSizes[b] + 3;   // unaligned on purpose
    memory = collective.allocate(floats * sizeof(float));
    float* next = static_cast<float*>(memory.memory.get());
    for (std::size_t b = 0; b < kSizes.size(); ++b) {
      plain.emplace_back(b % 2 == 1 ? kSizes[b] : 0);
      data.push_back(b % 2 == 1 ? plain.back().data() : next);
      if (b % 2 == 0) next += kSizes[b] + 3;
    }
  }
  [[nodiscard]] Bucket bucket(std::size_t b) const { return {.id = static_cast<int>(b), .data = data[b], .n = kSizes[b]}; }

  Buffer memory;
  std::vector<std::vector<float>> plain;
  std::vector<float*> data;
};

void fill(const Buckets& buckets, const std::vector<std::size_t>& used, Collective& collective, Operation operation,
          std::int64_t step) {
  Communicator& c = collective.communicator();
  for (const std::size_t b : used) {
    const Block own = operation == Operation::all_gather ? collective.block(c.rank(), kSizes[b]) : Block{0, kSizes[b]};
    std::fill_n(buckets.data[b], kSizes[b], -77.f);
    for (std::size_t i = own.begin; i < own.end(); ++i) {
      buckets.data[b][i] = value_of(c.rank(), static_cast<int>(b), step, i);
    }
  }
}

/// Number of elements of `got` that are wrong, with the first one for the message.
std::size_t count_wrong_sums(const float* got, Block part, int ranks, int bucket, std::int64_t step, bool rank_order,
                             std::string& first) {
  std::size_t wrong = 0;
  for (std::size_t i = part.begin; i < part.end(); ++i) {
    double exact = 0, magnitude = 0;
    float in_order = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const float x = value_of(rank, bucket, step, i);
      exact += x;
      magnitude += std::fabs(x);
      in_order = rank == 0 ? x : in_order + x;
    }
    const bool good = rank_order ? got[i] == in_order : std::fabs(got[i] - exact) <= magnitude * ranks * 0x1p-24;
    if (!good && wrong++ == 0) first = fmt::format("element {} is {}, not {}", i, got[i], exact);
  }
  return wrong;
}

/// Each rank compares one block with the truth; every block is somebody's, and equal hashes say that all have the same.
void check_result(const Buckets& buckets, const std::vector<std::size_t>& used, Collective& collective, Operation operation,
                  std::int64_t step) {
  Communicator& c = collective.communicator();
  const CollectiveType* type = Registry<CollectiveType>::instance().find(collective.algorithm());   // null: auto
  const bool rank_order = collective.options().rank_order || (type != nullptr && type->rank_order);
  for (const std::size_t b : used) {
    const std::string where = std::string(name(operation)) + " of " + std::to_string(kSizes[b]) + " floats at step " +
                              std::to_string(step) + ", " + std::to_string(c.size()) + " ranks";
    std::string first;
    std::size_t wrong = 0;
    if (operation == Operation::all_gather) {
      const int owner = (c.rank() + 1) % c.size();
      const Block part = collective.block(owner, kSizes[b]);
      for (std::size_t i = part.begin; i < part.end(); ++i) {
        wrong += buckets.data[b][i] != value_of(owner, static_cast<int>(b), step, i) ? 1 : 0;
      }
    } else {
      const Block part = collective.block(c.rank(), kSizes[b]);
      wrong = count_wrong_sums(buckets.data[b], part, c.size(), static_cast<int>(b), step, rank_order, first);
    }
    EXPECT_EQ(wrong, 0u) << where << ": " << first;
    if (operation == Operation::reduce_scatter) continue;
    const auto hashes = all_gather_value(c, hash_of(buckets.data[b], kSizes[b]));
    for (const std::uint64_t hash : hashes) EXPECT_EQ(hash, hashes[0]) << where << ": not the same bits on all ranks";
  }
}

/// A codec with a coarse grid, in tests only: 16-bit multiples of 2^-6. Lossy, not plain, another wire size.
class Coarse final : public Codec {
 public:
  std::size_t wire_bytes(std::size_t n) const override { return 2 * n; }
  void encode(const float* x, std::size_t n, std::byte* wire, float* residual, const ExchangeContext&) const override {
    for (std::size_t i = 0; i < n; ++i) {
      const float wanted = x[i] + (residual != nullptr ? residual[i] : 0.f);
      const auto q = static_cast<std::int16_t>(std::lrintf(wanted * 64));
      if (residual != nullptr) residual[i] = wanted - static_cast<float>(q) / 64;
      std::memcpy(wire + 2 * i, &q, 2);
    }
  }
  void decode(const std::byte* wire, std::size_t n, float* x, Accumulate how, const ExchangeContext&) const override {
    for (std::size_t i = 0; i < n; ++i) {
      std::int16_t q;
      std::memcpy(&q, wire + 2 * i, 2);
      x[i] = (how == Accumulate::add ? x[i] : 0.f) + static_cast<float>(q) / 64;
    }
  }
  bool exact() const noexcept override { return false; }
};

}  // namespace

void check_sums(Communicator& c, const std::string& algorithm, std::int64_t chunk_bytes) {
  if (fits(c, algorithm)) check_sums(c, options_of(algorithm, in_brief(chunk_bytes)));
}

void check_sums(Communicator& c, const CollectiveOptions& options, bool long_bucket) {
  const std::unique_ptr<Collective> collective = make_collective(c, options);
  SCOPED_TRACE(collective->describe() + " on " + c.nodes().text());
  const Buckets buckets(*collective);
  for (const Operation operation : {Operation::all_reduce, Operation::reduce_scatter, Operation::all_gather}) {
    std::vector<Work*> works;
    for (std::size_t b = 0; b < kSizes.size(); ++b) works.push_back(&collective->prepare(operation, buckets.bucket(b)));
    for (std::int64_t step = 0; step < kSteps; ++step) {
      // The long bucket costs most of the time, above all with sanitizers: many ranks sum it once, few do more with it.
      const bool all = (step == 0 && (operation == Operation::all_reduce || c.size() <= 4)) || (step == kSteps - 1 && c.size() <= 2);
      std::vector<std::size_t> used;
      for (std::size_t b = 0; b < kSizes.size(); ++b) {
        const std::size_t most = !all ? 1000 : long_bucket ? kSizes[4] : kSizes[6];
        if (kSizes[b] <= most) used.push_back(b);
      }
      fill(buckets, used, *collective, operation, step);
      for (const std::size_t b : used) works[b]->start(step);
      std::rotate(used.begin(), used.begin() + c.rank() % static_cast<int>(used.size()), used.end());
      for (const std::size_t b : used) works[b]->wait();   // in another order on each rank
      std::sort(used.begin(), used.end());
      for (const Work* work : works) EXPECT_FALSE(work->running());
      check_result(buckets, used, *collective, operation, step);
    }
  }
}

void check_placement(Communicator& c) {
  CollectiveOptions options = options_of("auto", kBrief ? 3000 : 12'000);
  options.network = kTestNetwork;
  check_sums(c, options, false);
  Communicator leaders = c.duplicate();   // as many nodes as there are, one rank on each
  std::vector<int> labels(static_cast<std::size_t>(c.size()));
  std::iota(labels.begin(), labels.end(), 0);
  leaders.force_nodes(NodeMap(labels));
  for (const std::string& name : Registry<CollectiveType>::instance().names()) {
    options.algorithm = name;
    options.inter = "auto";
    if (fits(c, name)) check_sums(c, options, false);
    if (name == "hierarchical" || !fits(leaders, name)) continue;
    options.algorithm = "hierarchical";
    options.inter = name;
    check_sums(c, options, false);
  }
}

void check_rank_order(Communicator& c) {
  constexpr std::size_t kN = 3000;
  std::vector<float> data(kN);
  std::vector<std::uint64_t> hashes;
  std::vector<std::string> texts;
  for (const std::string& name : Registry<CollectiveType>::instance().names()) {
    for (const double slow : {1.0, 1e4}) {
      CollectiveOptions options = options_of(name, 60'000);
      options.rank_order = true;
      options.network = kTestNetwork;
      options.network.between.latency *= slow;
      if (!why_not(Registry<CollectiveType>::instance().get(name), c, options).empty()) options.algorithm = "auto";
      const auto collective = make_collective(c, options);
      Work& work = collective->all_reduce({.id = 1, .data = data.data(), .n = kN});
      for (std::size_t i = 0; i < kN; ++i) data[i] = value_of(c.rank(), 1, 0, i);
      work.start(0);
      work.wait();
      hashes.push_back(hash_of(data.data(), kN));
      texts.push_back(collective->describe());
    }
  }
  for (std::size_t i = 1; i < hashes.size(); ++i) EXPECT_EQ(hashes[i], hashes[0]) << texts[i] << " and " << texts[0];
}

void check_mismatches(Communicator& c, const std::string& algorithm) {
  if (!fits(c, algorithm) || c.size() == 1) return;
  for (const std::string kind : {"step", "count", "dtype", "operation", "bucket", "configuration"}) {
    const bool odd_one = c.rank() == c.size() - 1;
    const bool differs = kind == "configuration" && odd_one;
    std::string text = "no error";
    {
      CollectiveOptions options = options_of(algorithm, differs ? 4096 : 8192);
      options.network = kTestNetwork;
      const auto collective = make_collective(c, options);
      const Buffer memory = collective->allocate(8000);
      Bucket bucket{.id = 4, .data = static_cast<float*>(memory.memory.get()), .n = 1000};
      if (kind == "count" && odd_one) bucket.n = 999;
      if (kind == "dtype" && odd_one) bucket.dtype = DType::bfloat16;
      Bucket next = bucket;
      next.id = 5;
      next.data += 1000;
      Work* first = &collective->prepare(
          kind == "operation" && odd_one ? Operation::reduce_scatter : Operation::all_reduce, bucket);
      Work* second = &collective->all_reduce(next);
      if (kind == "bucket" && odd_one) std::swap(first, second);
      try {
        const std::int64_t step = kind == "step" && odd_one ? 13 : 12;
        first->start(step);
        second->start(step);
        first->wait();
        second->wait();
      } catch (const Error& error) {
        text = error.what();
        EXPECT_EQ(error.code(), Code::failed_precondition) << text;
      }
    }
    EXPECT_THAT(text, HasSubstr(kind)) << algorithm;
    EXPECT_THAT(text, HasSubstr(" on rank " + std::to_string(c.size() - 1))) << algorithm << ", " << kind;
    if (kind == "count") { EXPECT_THAT(text, HasSubstr("999 on rank")) << text; }
    const std::vector<std::string> texts = all_gather(c, text);
    for (const std::string& other : texts) EXPECT_EQ(other, texts[0]) << algorithm << ", " << kind;
  }
}

void check_absent_rank(Communicator& c, const std::string& algorithm) {
  if (!fits(c, algorithm) || c.size() == 1) return;
  {
    const auto collective = make_collective(c, options_of(algorithm));
    collective->communicator().set_timeout(testing::patient(0.1));
    const Buffer memory = collective->allocate(4000);
    Work& work = collective->all_reduce({.id = 4, .data = static_cast<float*>(memory.memory.get()), .n = 1000});
    if (c.rank() != c.size() - 1) {
      try {
        work.start(9);
        work.wait();
        ADD_FAILURE() << algorithm << ": ended without rank " << c.size() - 1;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::deadline_exceeded);
        EXPECT_THAT(error.what(), HasSubstr("in all_reduce of bucket 4 at step 9"));
        if (c.rank() == 0) { EXPECT_THAT(error.what(), HasSubstr("for rank " + std::to_string(c.size() - 1))); }
      }
    }
    barrier(c);
  }
  barrier(c);
}

void check_lossy_codec(Communicator& c, const std::string& algorithm) {
  CollectiveOptions options = options_of(algorithm, 1024);
  options.codec = std::make_shared<Coarse>();
  options.codec_name = "coarse";
  options.network = kTestNetwork;
  if (!why_not(Registry<CollectiveType>::instance().get(algorithm), c, options).empty()) return;
  const auto collective = make_collective(c, options);
  constexpr std::size_t kN = 2000;
  std::vector<float> data(kN), residual(kN, 0.f);
  Work& work = collective->all_reduce({.id = 1, .data = data.data(), .n = kN, .residual = residual.data()});
  for (std::int64_t step = 0; step < kSteps; ++step) {
    std::vector<double> expected(kN), after(kN);
    for (std::size_t i = 0; i < kN; ++i) {
      data[i] = value_of(c.rank(), 1, step, i);
      expected[i] = static_cast<double>(data[i]) + residual[i];
    }
    work.start(step);
    work.wait();
    for (std::size_t i = 0; i < kN; ++i) after[i] = residual[i];
    all_reduce(c, expected, Reduce::sum);
    all_reduce(c, after, Reduce::sum);
    double error = 0, feedback = 0;
    for (std::size_t i = 0; i < kN; ++i) {
      error = std::max(error, std::fabs(data[i] + after[i] - expected[i]));
      feedback = std::max(feedback, std::fabs(after[i]));
    }
    EXPECT_LT(error, 1e-6 * c.size());
    const bool travels = c.size() > 1 && (c.nodes().nodes() > 1 || algorithm != "hierarchical");
    if (travels) { EXPECT_GT(feedback, 1e-3) << "the codec lost nothing: was it used?"; }
    const auto hashes = all_gather_value(c, hash_of(data.data(), kN));
    for (const std::uint64_t hash : hashes) EXPECT_EQ(hash, hashes[0]) << "not the same bits on all ranks";
  }
}

}  // namespace cohort::testing
