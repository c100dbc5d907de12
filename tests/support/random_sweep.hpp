#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "cohort/base/random.hpp"

namespace cohort::testing {

/// The random numbers of one case.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : bits_(seed) {}
  [[nodiscard]] std::size_t below(std::size_t n) { return static_cast<std::size_t>(bits_() % n); }
  [[nodiscard]] bool chance(double p) { return uniform(0, 1) < p; }
  [[nodiscard]] double uniform(double from, double to) {
    return from + (to - from) * static_cast<double>(bits_() >> 11) * 0x1p-53;
  }
  [[nodiscard]] double normal() { return normal_(bits_); }
  template <class T>
  [[nodiscard]] T pick(std::initializer_list<T> all) {
    return all.begin()[below(all.size())];
  }
  /// Of a vector: around the widths of registers and blocks, or any up to `most`.
  [[nodiscard]] std::size_t length(std::size_t most) {
    const auto usual = pick<std::size_t>({0,  1,  2,  3,  5,  7,  8,  9,  10, 12, 15,  16,
                                          17, 20, 31, 32, 33, 50, 63, 64, 65, 255, 256, 257});
    return chance(0.3) ? 1 + below(most) : usual;
  }

 private:
  std::mt19937_64 bits_;
  std::normal_distribution<double> normal_;
};

/// COHORT_SWEEP_CASES=5000: so many cases instead of 200. COHORT_SWEEP_SEED=7: other ones than those of seed 1 ("random": of
/// a new seed). COHORT_SWEEP_CASE=12: this case alone, which with the seed repeats what a failure names.
struct SweepSettings {
  std::int64_t cases = 200, only = -1;
  std::uint64_t seed = 1;

  SweepSettings() {
    const auto set = [](const char* name, auto& value) {
      using Value = std::remove_reference_t<decltype(value)>;
      if (const char* text = std::getenv(name)) value = static_cast<Value>(std::strtoll(text, nullptr, 10));
    };
    set("COHORT_SWEEP_CASES", cases);
    set("COHORT_SWEEP_CASE", only);
    set("COHORT_SWEEP_SEED", seed);
    const char* text = std::getenv("COHORT_SWEEP_SEED");
    if (text != nullptr && std::string(text) == "random") seed = std::random_device{}();
    std::cout << "COHORT_SWEEP_SEED=" << seed << ", " << cases << " cases each\n";
  }
};

/// Calls `one(draw)` for each case, and ends with the first one that fails, which the failure names.
template <class F>
void sweep(const std::string& what, F&& one) {
  static const SweepSettings settings;
  for (std::int64_t number = 0; number < settings.cases; ++number) {
    if (settings.only >= 0 && number != settings.only) continue;
    SCOPED_TRACE(what + ", COHORT_SWEEP_SEED=" + std::to_string(settings.seed) +
                 " COHORT_SWEEP_CASE=" + std::to_string(number));
    Draw draw((settings.seed * 1'000'003 + static_cast<std::uint64_t>(number)) ^ stream_of(what));
    one(draw);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace cohort::testing
