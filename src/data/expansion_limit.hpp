#pragma once

#include <cstdint>
#include <string>

#include "cohort/base/error.hpp"
#include "cohort/base/options.hpp"

namespace cohort {

/// How much compressed data may come to. A small file can stand for more bytes than a machine has, by mistake or on purpose;
/// data that compress so well are rare, so whoever has them says so.
struct ExpansionLimit {
  static constexpr std::uint64_t kAlwaysAllowed = std::uint64_t{64} << 20;   // bytes; they do no harm

  std::int64_t times = 200;              ///< 0: no limit
  std::string option = "most_expansion"; ///< by its full name, for messages

  void bind(Section& section) {
    section.bind("most_expansion", times,
                 "compressed data may come to this many times the bytes that are stored, and to 64 MiB always; 0: to any",
                 between(0, 1e9));
    option = section.path() + ".most_expansion";
  }
  [[nodiscard]] bool allows(std::uint64_t bytes, std::uint64_t stored) const {
    return times == 0 || bytes <= kAlwaysAllowed || bytes / static_cast<std::uint64_t>(times) <= stored;
  }
  /// Error invalid_argument, beginning with `what`, unless `bytes` may come of so many that are stored.
  void require(std::uint64_t bytes, std::uint64_t stored, const std::string& what) const {
    if (allows(bytes, stored)) return;
    fail(Code::invalid_argument, what + " " + std::to_string(bytes) + " bytes, for which " + std::to_string(stored) +
                                     " are stored: more than " + option + " = " + std::to_string(times) +
                                     " times as many; raise it if that is right (0: no limit)");
  }
};

}  // namespace cohort
