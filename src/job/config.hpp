#pragma once

#include <memory>
#include <span>
#include <string>

#include "cohort/base/options.hpp"
#include "cohort/comm/communicator.hpp"

namespace cohort {

/// What a job file and the command line say, before anybody has bound it.
struct Configuration {
  Section root;
  /// One "key = value" per line, sorted: equal texts mean equal configurations.
  std::string text;
};

/// Reads a TOML file ("" for none) and lays `settings`, each "a.b.c=value", over it. A value is read as TOML; what is none,
/// such as adam or /data/set, is a text; {…} replaces a whole section. An entry of a list of tables is named by its number:
/// optimizer.group.0.decay=false. Errors name file, line and column: not_found, invalid_argument.
[[nodiscard]] Configuration load_configuration(const std::string& file, std::span<const std::string> settings);

/// Collective. Error failed_precondition, alike on all ranks, with the lines that differ and the ranks that have them; it begins
/// with what these texts say of the ranks: "the ranks were started with different configurations".
void compare_between_ranks(Communicator& world, const std::string& text, const std::string& what);

}  // namespace cohort
