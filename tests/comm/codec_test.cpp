// Every codec against references that share no code with it: tables of all 16-bit floats in double precision, and the wire of
// int8 read by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"
#include "cohort/comm/codec.hpp"

namespace cohort {
namespace {

constexpr std::uint64_t kSeed = 20240611;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr std::array<std::size_t, 6> kSizes{0, 1, 255, 256, 257, (1u << (COHORT_BRIEF ? 14 : 20)) + 1};

struct Numbers {
  std::string name;
  std::function<float(std::size_t i, std::size_t n)> at;
};

const std::vector<Numbers>& kinds() {
  const auto normal = [](std::size_t i) { return random_normal(kSeed, 1, i); };
  static const std::vector<Numbers> all{
      {"zero", [](std::size_t i, std::size_t) { return i % 3 == 0 ? -0.f : 0.f; }},
      {"constant", [](std::size_t, std::size_t) { return -0.37f; }},
      {"normal", [=](std::size_t i, std::size_t) { return normal(i); }},
      {"heavy_tailed", [=](std::size_t i, std::size_t) { return normal(i) / (random_uniform(kSeed, 2, i) + 1e-6f); }},
      {"outlier", [=](std::size_t i, std::size_t n) { return i == n / 3 ? 1e4f : 1e-3f * normal(i); }},
      {"narrow_range", [=](std::size_t i, std::size_t) { return 1e-10f * normal(i); }},
      {"subnormal", [=](std::size_t i, std::size_t) { return std::ldexp(normal(i), -127 - static_cast<int>(i / 256 % 24)); }},
      {"huge", [=](std::size_t i, std::size_t n) { return i == n / 2 ? -kLargest : (2 * random_uniform(kSeed, 3, i) - 1) * kLargest; }},
      {"nan", [=](std::size_t i, std::size_t n) { return i == n / 2 ? kNaN : normal(i); }},
      {"infinite", [=](std::size_t i, std::size_t n) { return i == n / 2 ? -kInf : normal(i); }},
  };
  return all;
}

const std::vector<float>& numbers(const Numbers& kind, std::size_t n) {
  static std::map<std::pair<std::string, std::size_t>, std::vector<float>> made;
  std::vector<float>& x = made[{kind.name, n}];
  while (x.size() < n) x.push_back(kind.at(x.size(), n));
  return x;
}

std::shared_ptr<const Codec> make(const std::string& name, const std::vector<std::pair<std::string, OptionValue>>& options = {}) {
  Section section(name);
  for (const auto& [key, value] : options) section.set(key, value);
  std::shared_ptr<const Codec> codec = Registry<CodecType>::instance().get(name).make(section);
  section.finish();
  return codec;
}
std::shared_ptr<const Codec> int8_of(std::int64_t block, const std::string& rounding = "nearest", std::int64_t seed = 1) {
  return make("int8", {{"block", {block, "test"}}, {"rounding", {rounding, "test"}}, {"seed", {seed, "test"}}});
}

struct RoundTrip {
  std::vector<float> wanted, decoded, residual, old_residual;   // wanted: x + old residual, in float32
  std::vector<std::byte> wire;
};

/// Encodes with and without feedback and decodes both ways; checks what holds for all codecs.
RoundTrip round_trip(const Codec& codec, const std::vector<float>& x, bool feedback, const ExchangeContext& context = {}) {
  const std::size_t n = x.size();
  RoundTrip t;
  t.wanted = x;
  if (feedback) {
    for (std::size_t i = 0; i < n; ++i) {
      t.residual.push_back(std::isfinite(x[i]) ? x[i] * (static_cast<float>(i * 37 % 101) - 50) / 4000 : 0.25f);
      t.wanted[i] = x[i] + t.residual[i];
    }
    t.old_residual = t.residual;
  }
  constexpr std::byte kGuard{0x5a};
  t.wire.assign(codec.wire_bytes(n) + 8, kGuard);
  codec.encode(x.data(), n, t.wire.data(), feedback ? t.residual.data() : nullptr, context);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(t.wire[codec.wire_bytes(n) + i], kGuard) << "wrote beyond the wire's end";
  t.decoded.assign(n, 77.f);
  codec.decode(t.wire.data(), n, t.decoded.data(), Accumulate::assign, context);
  std::vector<float> sum(n, 3.f);
  codec.decode(t.wire.data(), n, sum.data(), Accumulate::add, context);
  for (std::size_t i = 0; i < n; ++i) {
    // Whether the product and the sum are rounded once or twice is the compiler's choice.
    const double once = 3.0 + static_cast<double>(t.decoded[i]);
    const bool close = std::fabs(sum[i] - once) <= 0x1p-23 * (3 + std::fabs(once)) || !(std::fabs(once) < 1e38);
    if (!close) return ADD_FAILURE() << "add: element " << i << " is " << sum[i] << ", not " << once, t;
  }
  return t;
}

/// residual := wanted - decoded where that is finite, else what it was.
void check_residual(const RoundTrip& t) {
  for (std::size_t i = 0; i < t.residual.size(); ++i) {
    const double lost = static_cast<double>(t.wanted[i]) - static_cast<double>(t.decoded[i]);
    const bool good = std::isfinite(t.decoded[i]) ? std::fabs(t.residual[i] - lost) <= 1e-6 * std::fabs(lost) + 0x1p-23 * std::fabs(t.wanted[i])
                                                  : t.residual[i] == t.old_residual[i];
    if (!good) {
      ADD_FAILURE() << "residual of element " << i << " is " << t.residual[i] << ", wanted " << t.wanted[i] << ", decoded " << t.decoded[i];
      return;
    }
  }
}

/// All magnitudes of a 16-bit format in double precision, infinity as the power of two that comes after the largest.
std::vector<double> table_of(int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  std::vector<double> table;
  for (int exponent = 0; exponent < (1 << exponent_bits) - 1; ++exponent) {
    for (int m = 0; m < 1 << mantissa_bits; ++m) {
      const double fraction = m / std::ldexp(1.0, mantissa_bits);
      table.push_back(exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
    }
  }
  table.push_back(std::ldexp(1.0, bias + 1));
  return table;
}

/// Bits of the nearest magnitude in the table, of two equally near ones the even one.
std::size_t nearest(const std::vector<double>& table, double magnitude, std::size_t guess) {
  guess = std::min(guess, table.size() - 1);
  while (guess + 1 < table.size() && table[guess + 1] <= magnitude) ++guess;
  while (guess > 0 && table[guess] > magnitude) --guess;
  if (guess + 1 == table.size()) return guess;
  const double below = magnitude - table[guess], above = table[guess + 1] - magnitude;
  return below < above || (below == above && guess % 2 == 0) ? guess : guess + 1;
}

/// Number of wrong elements of a 16-bit wire.
std::size_t count_wrong(const std::vector<double>& table, const RoundTrip& t, std::string& first) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < t.wanted.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, t.wire.data() + 2 * i, 2);
    const std::size_t magnitude = bits & 0x7fffu, infinite = table.size() - 1;
    bool good;
    if (std::isnan(t.wanted[i])) {
      good = magnitude > infinite && std::isnan(t.decoded[i]);
    } else {
      const double exact = std::fabs(static_cast<double>(t.wanted[i]));
      const std::size_t want = std::isinf(exact) ? infinite : nearest(table, exact, magnitude);
      good = magnitude == want && (bits >> 15 != 0) == std::signbit(t.wanted[i]);
      const double value = want == infinite ? static_cast<double>(kInf) : table[want];
      good = good && static_cast<double>(t.decoded[i]) == std::copysign(value, static_cast<double>(t.wanted[i]));
    }
    if (!good && wrong++ == 0) first = "element " + std::to_string(i) + ": " + std::to_string(t.wanted[i]) + " → " + std::to_string(t.decoded[i]);
  }
  return wrong;
}

void check_sixteen_bits(const std::string& name, int exponent_bits) {
  const auto codec = make(name);
  const std::vector<double> table = table_of(exponent_bits);
  EXPECT_FALSE(codec->exact());
  for (const std::size_t n : kSizes) {
    EXPECT_EQ(codec->wire_bytes(n), 2 * n);
    for (const Numbers& kind : kinds()) {
      for (const bool feedback : {false, true}) {
        SCOPED_TRACE(name + ", " + kind.name + ", " + std::to_string(n) + (feedback ? " with feedback" : ""));
        const RoundTrip t = round_trip(*codec, numbers(kind, n), feedback);
        std::string first;
        EXPECT_EQ(count_wrong(table, t, first), 0u) << first;
        check_residual(t);
      }
    }
  }
  // Every bit pattern, and the midpoints between neighbours.
  std::vector<float> x;
  for (std::size_t i = 0; i + 1 < table.size(); ++i) {
    x.push_back(static_cast<float>(table[i]));
    x.push_back(-static_cast<float>((table[i] + table[i + 1]) / 2));
  }
  std::string first;
  EXPECT_EQ(count_wrong(table, round_trip(*codec, x, false), first), 0u) << name << ": " << first;
}

TEST(Codecs, Bf16RoundsToNearestEven) { check_sixteen_bits("bf16", 8); }
TEST(Codecs, Fp16RoundsToNearestEven) { check_sixteen_bits("fp16", 5); }

TEST(Codecs, Fp32IsExact) {
  const auto codec = make("fp32");
  for (const std::size_t n : kSizes) {
    for (const Numbers& kind : kinds()) {
      const std::vector<float> x = numbers(kind, n);
      const RoundTrip t = round_trip(*codec, x, false);
      EXPECT_TRUE(n == 0 || std::memcmp(t.decoded.data(), x.data(), n * sizeof(float)) == 0) << kind.name << ", " << n;
    }
  }
}

/// Reads the wire by hand: scales, then bytes. `error`: in steps, that an element may be off.
void check_int8_block(const RoundTrip& t, std::size_t begin, std::size_t n, float step, const std::int8_t* bytes, double error) {
  double largest = 0;
  bool finite = true;
  for (std::size_t i = begin; i < begin + n; ++i) {
    finite = finite && std::isfinite(t.wanted[i]);
    largest = std::max(largest, std::fabs(static_cast<double>(t.wanted[i])));
  }
  if (!finite) {
    for (std::size_t i = begin; i < begin + n; ++i) {
      if (!std::isnan(t.decoded[i])) FAIL() << "element " << i << " is " << t.decoded[i];
    }
    return;
  }
  const double exact = largest / 127, tiny = 0x1p-149;
  ASSERT_LE(std::fabs(static_cast<double>(step) - exact), exact * 0x1p-22 + tiny) << "scale " << step << " for " << largest;
  const double allowed = error * static_cast<double>(step) * (1 + 1e-4);
  for (std::size_t i = begin; i < begin + n; ++i) {
    const double decoded = static_cast<double>(t.decoded[i]);
    const bool read_right = std::fabs(decoded - bytes[i] * static_cast<double>(step)) <= std::fabs(decoded) * 0x1p-23;
    if (bytes[i] >= -127 && read_right && std::fabs(static_cast<double>(t.wanted[i]) - decoded) <= allowed) continue;
    FAIL() << "element " << i << ": " << t.wanted[i] << " → byte " << int{bytes[i]} << " → " << decoded << ", step " << step;
  }
}

void check_int8(std::int64_t block, const std::string& rounding) {
  const auto codec = int8_of(block, rounding);
  const auto length = static_cast<std::size_t>(block);
  for (const std::size_t n : kSizes) {
    if (n > 1000 && (block != 256 || rounding == "stochastic")) continue;
    const std::size_t blocks = (n + length - 1) / length;
    EXPECT_EQ(codec->wire_bytes(n), n + 4 * blocks);
    for (const Numbers& kind : kinds()) {
      for (const bool feedback : {false, true}) {
        SCOPED_TRACE("block " + std::to_string(block) + ", " + rounding + ", " + kind.name + ", " + std::to_string(n) +
                     (feedback ? " with feedback" : ""));
        const RoundTrip t = round_trip(*codec, numbers(kind, n), feedback);
        for (std::size_t b = 0; b < blocks && !::testing::Test::HasFailure(); ++b) {
          float step;
          std::memcpy(&step, t.wire.data() + 4 * b, 4);
          const auto* bytes = reinterpret_cast<const std::int8_t*>(t.wire.data() + 4 * blocks);
          check_int8_block(t, b * length, std::min(length, n - b * length), step, bytes, rounding == "nearest" ? 0.5 : 1);
        }
        check_residual(t);
      }
    }
  }
}

TEST(Codecs, Int8IsWithinHalfAStep) {
  for (const std::int64_t block : {32, 256, 1024}) check_int8(block, "nearest");
}
TEST(Codecs, Int8StochasticIsWithinAStep) { check_int8(256, "stochastic"); }

TEST(Codecs, Int8RoundsTiesToEven) {
  std::vector<float> x(256, 0.f), expected(256, 0.f);
  x[0] = expected[0] = 127;
  for (int i = 1; i < 127; ++i) {
    x[static_cast<std::size_t>(i)] = static_cast<float>(i) - 0.5f;
    expected[static_cast<std::size_t>(i)] = static_cast<float>(i % 2 == 0 ? i : i - 1);
  }
  EXPECT_EQ(round_trip(*int8_of(256), x, false).decoded, expected);
}

TEST(Codecs, OneBadElementSpoilsItsBlockOnly) {
  for (const float bad : {kNaN, kInf}) {
    std::vector<float> x(1024, 0.5f);
    x[300] = bad;
    const RoundTrip t = round_trip(*int8_of(256), x, false);
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(std::isnan(t.decoded[i]), i / 256 == 1) << i;
  }
}

TEST(Codecs, StochasticRoundingIsRightOnAverageAndReplays) {
  constexpr std::size_t kN = 512;
  constexpr int kSteps = 4000;
  const auto codec = int8_of(256, "stochastic", 5);
  std::vector<float> x(kN);
  for (std::size_t i = 0; i < kN; ++i) x[i] = random_normal(kSeed, 6, i);
  std::vector<double> mean(kN, 0);
  for (int step = 0; step < kSteps; ++step) {
    const RoundTrip t = round_trip(*codec, x, false, {.step = step, .bucket = 2, .rank = 3});
    for (std::size_t i = 0; i < kN; ++i) mean[i] += static_cast<double>(t.decoded[i]) / kSteps;
  }
  for (std::size_t i = 0; i < kN; ++i) {
    // A step is 1/127 of some 3; the standard deviation of one rounding is at most half a step.
    EXPECT_NEAR(mean[i], x[i], 5 * 0.5 * 4.0 / 127 / std::sqrt(kSteps)) << "element " << i << ", seed " << kSeed;
  }
  const auto wire_at = [&](const Codec& c, const ExchangeContext& context) { return round_trip(c, x, false, context).wire; };
  const ExchangeContext here{.step = 7, .bucket = 2, .rank = 3};
  EXPECT_EQ(wire_at(*codec, here), wire_at(*int8_of(256, "stochastic", 5), here));
  EXPECT_NE(wire_at(*codec, here), wire_at(*int8_of(256, "stochastic", 6), here)) << "the seed does nothing";
  EXPECT_NE(wire_at(*codec, here), wire_at(*codec, {.step = 8, .bucket = 2, .rank = 3})) << "the step does nothing";
  EXPECT_NE(wire_at(*codec, here), wire_at(*codec, {.step = 7, .bucket = 2, .rank = 4})) << "the rank does nothing";
  EXPECT_NE(wire_at(*codec, here), wire_at(*codec, {.step = 7, .bucket = 3, .rank = 3})) << "the bucket does nothing";
  EXPECT_NE(wire_at(*codec, here), wire_at(*codec, here.at(256))) << "the place does nothing";
}

TEST(Codecs, StochasticRoundingDependsOnThePlaceNotOnTheCut) {
  const auto codec = int8_of(256, "stochastic");
  std::vector<float> x(768), whole(768), cut(768);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = random_normal(kSeed, 7, i);
  whole = round_trip(*codec, x, false, {.step = 1}).decoded;
  std::vector<std::byte> wire(codec->wire_bytes(512));
  for (const auto& [begin, n] : {std::pair{0u, 256u}, std::pair{256u, 512u}}) {
    const ExchangeContext context{.step = 1, .offset = begin};
    codec->encode(x.data() + begin, n, wire.data(), nullptr, context);
    codec->decode(wire.data(), n, cut.data() + begin, Accumulate::assign, context);
  }
  EXPECT_EQ(cut, whole);
}

TEST(Codecs, WiresAreAsShortAsPromised) {
  const std::size_t n = 1u << 20;
  EXPECT_LE(static_cast<double>(make("int8")->wire_bytes(n)), 0.26 * 4 * static_cast<double>(n));
  EXPECT_LE(static_cast<double>(make("bf16")->wire_bytes(n)), 0.51 * 4 * static_cast<double>(n));
}

TEST(Codecs, FeedbackDeliversEverythingInTheEnd) {
  constexpr int kSteps = 200;
  for (const std::string name : {"bf16", "fp16", "int8"}) {
    const auto codec = make(name);
    std::vector<float> x(1000), residual(x.size(), 0.f), decoded(x.size());
    std::vector<double> given(x.size(), 0), got(x.size(), 0);
    std::vector<std::byte> wire(codec->wire_bytes(x.size()));
    for (int step = 0; step < kSteps; ++step) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = 0.1f + random_normal(kSeed, 100 + static_cast<std::uint64_t>(step), i);
        given[i] += static_cast<double>(x[i]);
      }
      codec->encode(x.data(), x.size(), wire.data(), residual.data(), {.step = step});
      codec->decode(wire.data(), x.size(), decoded.data(), Accumulate::assign, {.step = step});
      for (std::size_t i = 0; i < x.size(); ++i) got[i] += static_cast<double>(decoded[i]);
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(got[i] + static_cast<double>(residual[i]), given[i], 1e-6 * kSteps * 4) << name << ", element " << i;
      ASSERT_LT(std::fabs(residual[i]), 0.03) << name << ", element " << i;
    }
  }
}

TEST(Codecs, OptionsAreChecked) {
  EXPECT_THROW((void)int8_of(100), Error);
  EXPECT_THROW((void)int8_of(16), Error);
  EXPECT_THROW((void)int8_of(8192), Error);
  EXPECT_THROW((void)int8_of(256, "up"), Error);
}

}  // namespace
}  // namespace cohort
