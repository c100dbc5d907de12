// Every registered codec, with random options, lengths, places and numbers, against plain scalar references: rounding in
// double for the 16-bit formats, the documented wire of int8 read by hand. How many cases there are, and how to repeat one:
// support/random_sweep.hpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "cohort/comm/codec.hpp"
#include "support/random_sweep.hpp"

namespace cohort {
namespace {

using testing::Draw;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// What went in, what came out. `wanted`: x + the old residual, in float32.
struct Trip {
  std::vector<float> x, old_residual, wanted, residual, decoded, added;
  std::vector<std::byte> wire;
  bool feedback = false;
};

struct Case {
  std::shared_ptr<const Codec> codec;
  std::function<void(const Trip&)> check;
};
using MakeCase = std::function<Case(Draw&)>;

/// To the nearest of the numbers with so many bits behind the point, of two equally near ones to the even one; exponents
/// from `least` (below it numbers are evenly spaced) to `most`, beyond which is infinity.
double rounded(double x, int bits, int least, int most) {
  if (x == 0 || !std::isfinite(x)) return x;
  const double spacing = std::ldexp(1.0, std::max(std::ilogb(x), least) - bits);
  const double result = std::nearbyint(x / spacing) * spacing;
  const double finite = std::fabs(result) < std::ldexp(1.0, most + 1) ? result : static_cast<double>(kInf);
  return std::copysign(finite, x);
}

bool same(float a, double b) {
  return std::isnan(b) ? std::isnan(a) : static_cast<double>(a) == b && std::signbit(a) == std::signbit(b);
}

void check_sixteen_bits(const Trip& t, int bits, int least, int most) {
  ASSERT_EQ(t.wire.size(), 2 * t.x.size());
  for (std::size_t i = 0; i < t.x.size(); ++i) {
    const double wanted = static_cast<double>(t.wanted[i]), expected = rounded(wanted, bits, least, most);
    ASSERT_TRUE(same(t.decoded[i], expected)) << "element " << i << ": " << wanted << " became " << t.decoded[i] << ", not "
                                              << expected;
    if (!t.feedback) continue;
    const double late = std::isfinite(expected) ? wanted - expected : static_cast<double>(t.old_residual[i]);
    ASSERT_EQ(static_cast<double>(t.residual[i]), late) << "residual of element " << i << ", " << wanted << " as " << expected;
  }
}

void check_fp32(const Trip& t) {
  ASSERT_EQ(t.wire.size(), 4 * t.x.size());
  for (std::size_t i = 0; i < t.x.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(t.decoded[i]), std::bit_cast<std::uint32_t>(t.wanted[i])) << "element " << i;
    if (!t.feedback) continue;
    ASSERT_EQ(t.residual[i], std::isfinite(t.wanted[i]) ? 0.f : t.old_residual[i]) << "residual of element " << i;
  }
}

struct Int8 {
  std::size_t block;
  bool stochastic;

  void check(const Trip& t) const {
    const std::size_t n = t.x.size(), blocks = (n + block - 1) / block;
    ASSERT_EQ(t.wire.size(), 4 * blocks + n);
    for (std::size_t b = 0; b < blocks && !::testing::Test::HasFailure(); ++b) {
      check_block(t, b, b * block, std::min(n, (b + 1) * block), 4 * blocks);
    }
  }
  void check_block(const Trip& t, std::size_t b, std::size_t begin, std::size_t end, std::size_t bytes) const {
    float step;
    std::memcpy(&step, t.wire.data() + 4 * b, 4);
    double largest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const double magnitude = std::fabs(static_cast<double>(t.wanted[i]));
      largest = std::isfinite(magnitude) ? std::max(largest, magnitude) : kInf;
      if (!std::isfinite(magnitude)) break;
    }
    if (std::isinf(largest)) {
      ASSERT_TRUE(std::isnan(step)) << "block " << b;
    } else {
      ASSERT_NEAR(static_cast<double>(step), largest / 127, largest / 127 * 0x1p-22 + 0x1p-149) << "block " << b;
    }
    for (std::size_t i = begin; i < end; ++i) {
      std::int8_t byte;
      std::memcpy(&byte, t.wire.data() + bytes + i, 1);
      check_element(t, i, step, byte);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  void check_element(const Trip& t, std::size_t i, float step, int byte) const {
    if (std::isnan(step)) {
      ASSERT_TRUE(std::isnan(t.decoded[i])) << "element " << i;
      const bool kept = !t.feedback || t.residual[i] == t.old_residual[i];
      ASSERT_TRUE(kept) << "residual of element " << i;
      return;
    }
    const double wanted = static_cast<double>(t.wanted[i]), width = static_cast<double>(step);
    ASSERT_GE(byte, -127);
    ASSERT_EQ(t.decoded[i], static_cast<float>(byte) * step) << "element " << i;
    const double off = step == 0 ? std::fabs(wanted) : std::fabs(wanted / width - byte);
    ASSERT_LE(off, (stochastic ? 1 : 0.5) + 1e-4) << "element " << i << ": " << wanted << " became " << byte << " · " << step;
    if (!t.feedback) return;
    const double rounding = 0x1p-23 * std::max(std::fabs(wanted), std::fabs(byte * width)) + 0x1p-149;
    ASSERT_NEAR(static_cast<double>(t.residual[i]), wanted - byte * width, rounding) << "residual of element " << i;
  }
};

using NamedValues = std::vector<std::pair<std::string, OptionValue>>;

std::shared_ptr<const Codec> made(const std::string& name, const NamedValues& options = {}) {
  Section section(name);
  for (const auto& [key, value] : options) section.set(key, value);
  std::shared_ptr<const Codec> codec = Registry<CodecType>::instance().get(name).make(section);
  section.finish();
  return codec;
}

Case int8_case(Draw& draw) {
  const std::int64_t block = draw.pick<std::int64_t>({256, 256, 256, 32, 64, 128, 1024, 4096});
  const bool stochastic = draw.chance(0.4);
  const std::string rounding = stochastic ? "stochastic" : "nearest";
  const auto seed = static_cast<std::int64_t>(draw.below(1000));
  const Int8 reference{static_cast<std::size_t>(block), stochastic};
  return {made("int8", {{"block", {block, "test"}}, {"rounding", {rounding, "test"}}, {"seed", {seed, "test"}}}),
          [reference](const Trip& t) { reference.check(t); }};
}

const std::map<std::string, MakeCase>& makers() {
  static const std::map<std::string, MakeCase> all = {
      {"fp32", [](Draw&) { return Case{made("fp32"), check_fp32}; }},
      {"bf16", [](Draw&) { return Case{made("bf16"), [](const Trip& t) { check_sixteen_bits(t, 7, -126, 127); }}; }},
      {"fp16", [](Draw&) { return Case{made("fp16"), [](const Trip& t) { check_sixteen_bits(t, 10, -14, 15); }}; }},
      {"int8", int8_case},
  };
  return all;
}

/// Kinds of numbers, one for each stretch of a vector.
float number(Draw& draw, std::size_t kind) {
  const double normal = draw.normal();
  switch (kind) {
    case 0: return draw.chance(0.5) ? 0.f : -0.f;
    case 1: return static_cast<float>(std::ldexp(normal, -140));   // subnormal, or nothing
    case 2: return static_cast<float>(std::ldexp(normal, -120));
    case 3: return static_cast<float>(std::ldexp(std::fmod(normal, 1.0) * 0.999999, 128));   // up to the largest
    case 4: return std::bit_cast<float>(static_cast<std::uint32_t>(draw.below(std::size_t{1} << 32)));   // NaN, infinity, …
    case 5: return static_cast<float>(std::round(normal * 8)) / 16;   // many ties
    case 6: return static_cast<float>(std::ldexp(normal, static_cast<int>(draw.below(40)) - 30));   // all that fp16 knows
    default: return static_cast<float>(normal);
  }
}

std::vector<float> numbers(Draw& draw, std::size_t n) {
  std::vector<float> x(n);
  std::size_t kind = 7;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % 32 == 0 && (i == 0 || draw.chance(0.3))) kind = draw.chance(0.4) ? 7 : draw.below(8);
    x[i] = number(draw, kind);
  }
  if (n > 0 && draw.chance(0.2)) x[draw.below(n)] = draw.pick({kNaN, kInf, -kInf});
  return x;
}

/// Residuals as they come about: small beside what they were left over from.
std::vector<float> residuals(Draw& draw, const std::vector<float>& x) {
  std::vector<float> result(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    result[i] = std::isfinite(x[i]) ? x[i] * static_cast<float>(draw.uniform(-0.01, 0.01)) : 0.25f;
  }
  return result;
}

/// Both ways of decoding; the wire and the vectors begin at any place that is aligned to 4 bytes, and nothing is written
/// beside them.
Trip round_trip(const Codec& codec, Draw& draw, const ExchangeContext& context) {
  constexpr std::size_t kGuards = 8;
  constexpr std::byte kGuard{0x5a};
  Trip t;
  const std::size_t n = draw.length(3000), bytes = codec.wire_bytes(n), before = 4 * draw.below(16), skip = draw.below(16);
  t.x = numbers(draw, n);
  t.feedback = draw.chance(0.5);
  t.wanted = t.x;
  if (t.feedback) {
    t.old_residual = residuals(draw, t.x);
    for (std::size_t i = 0; i < n; ++i) t.wanted[i] += t.old_residual[i];
  }
  std::vector<float> x(skip), residual(skip), decoded(skip + n + kGuards, 77.f), added(skip + n + kGuards, 0.5f);
  x.insert(x.end(), t.x.begin(), t.x.end());
  residual.insert(residual.end(), t.old_residual.begin(), t.old_residual.end());
  std::vector<std::byte> wire(before + bytes + kGuards, kGuard), again(wire);
  const auto encode = [&](std::vector<std::byte>& to, std::vector<float> late) {
    codec.encode(x.data() + skip, n, to.data() + before, t.feedback ? late.data() + skip : nullptr, context);
    return late;
  };
  const std::vector<float> after = encode(wire, residual);
  (void)encode(again, residual);
  EXPECT_EQ(wire, again) << "the same floats at the same place give another wire";
  for (std::size_t i = 0; i < wire.size(); ++i) {
    EXPECT_TRUE((i >= before && i < before + bytes) || wire[i] == kGuard) << "wrote beside the wire";
  }
  codec.decode(wire.data() + before, n, decoded.data() + skip, Accumulate::assign, context);
  codec.decode(wire.data() + before, n, added.data() + skip, Accumulate::add, context);
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    const bool mine = i >= skip && i < skip + n;
    EXPECT_TRUE(mine || (decoded[i] == 77.f && added[i] == 0.5f)) << "wrote beside the floats";
  }
  t.decoded.assign(decoded.data() + skip, decoded.data() + skip + n);
  t.added.assign(added.data() + skip, added.data() + skip + n);
  if (t.feedback) t.residual.assign(after.data() + skip, after.data() + skip + n);
  t.wire.assign(wire.data() + before, wire.data() + before + bytes);
  return t;
}

void check_sums(const Trip& t) {
  for (std::size_t i = 0; i < t.decoded.size(); ++i) {
    const double decoded = static_cast<double>(t.decoded[i]), sum = 0.5 + decoded;
    const double off = std::fabs(static_cast<double>(t.added[i]) - sum);   // rounded once or, with int8's product, twice
    const bool good = std::isfinite(decoded) ? off <= 0x1p-23 * (1 + std::fabs(sum)) : same(t.added[i], decoded);
    ASSERT_TRUE(good) << "element " << i << ": 0.5 + " << t.decoded[i] << " became " << t.added[i];
  }
}

class CodecSweep : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Registry, CodecSweep, ::testing::ValuesIn(Registry<CodecType>::instance().names()),
                         [](const auto& one) { return one.param; });

TEST_P(CodecSweep, SaysWhatItsReferenceSays) {
  const auto found = makers().find(GetParam());
  ASSERT_NE(found, makers().end()) << GetParam() << " has no reference to be compared with: give it one here";
  testing::sweep(GetParam(), [&](Draw& draw) {
    const Case one = found->second(draw);
    const ExchangeContext context{.step = static_cast<std::int64_t>(draw.below(100)),
                                  .bucket = static_cast<int>(draw.below(5)),
                                  .rank = static_cast<int>(draw.below(9)),
                                  .offset = 256 * draw.below(20)};
    const Trip t = round_trip(*one.codec, draw, context);
    one.check(t);
    check_sums(t);
  });
}

}  // namespace
}  // namespace cohort
