#include "run/fact_file.hpp"

#include <charconv>
#include <cstddef>
#include <fstream>
#include <string_view>

#include "cohort/base/json.hpp"

namespace cohort {
namespace {

/// What json_text has made of it: a string of JSON is one of TOML as well.
std::string unquoted(std::string_view quoted) {
  std::string text;
  for (std::size_t i = 1; i < quoted.size() && quoted[i] != '"'; ++i) {
    if (quoted[i] != '\\' || i + 1 == quoted.size()) {
      text += quoted[i];
    } else if (quoted[++i] == 'u' && i + 4 < quoted.size()) {
      int code = 0;
      std::from_chars(quoted.data() + i + 1, quoted.data() + i + 5, code, 16);
      text += static_cast<char>(code);
      i += 4;
    } else {
      text += quoted[i];
    }
  }
  return text;
}

}  // namespace

std::string facts_text(const std::string& title, const Facts& facts) {
  std::string text = "# " + title + "\n";
  for (const auto& [name, fact] : facts) text += name + " = " + json_text(fact) + "\n";
  return text;
}

Facts read_facts(const std::filesystem::path& file) {
  constexpr std::string_view kBetween = " = \"";
  Facts facts;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const std::size_t at = line.find(kBetween);
    if (at == std::string::npos || line.starts_with('#')) continue;
    facts[line.substr(0, at)] = unquoted(std::string_view(line).substr(at + kBetween.size() - 1));
  }
  return facts;
}

}  // namespace cohort
