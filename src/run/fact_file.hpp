#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace cohort {

/// A few named texts in a small file that people and TOML readers understand: a line `name = "text"` for each.
using Facts = std::map<std::string, std::string>;

/// `title`: the comment that the file begins with.
[[nodiscard]] std::string facts_text(const std::string& title, const Facts& facts);
/// Empty if there is no such file; lines of another form are passed over.
[[nodiscard]] Facts read_facts(const std::filesystem::path& file);

}  // namespace cohort
