#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/base/options.hpp"

namespace cohort::testing {

/// Options by dotted name, as `--set` would give them.
using Options = std::map<std::string, decltype(OptionValue::value)>;

inline OptionList numbers(const std::vector<std::int64_t>& values) {
  OptionList list(values.size());
  std::transform(values.begin(), values.end(), list.begin(), [](std::int64_t value) { return OptionValue{value, "test"}; });
  return list;
}

inline Section section_of(const Options& options) {
  Section root;
  for (const auto& [path, value] : options) {
    Section* section = &root;
    std::string_view rest = path;
    for (auto dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      section = &section->child(rest.substr(0, dot));
      rest.remove_prefix(dot + 1);
    }
    section->set(rest, {value, "test"});
  }
  return root;
}

inline Options with(Options base, const Options& changes) {
  for (const auto& [key, value] : changes) base[key] = value;
  return base;
}

}  // namespace cohort::testing
