#pragma once

#include <string>
#include <string_view>

namespace cohort {

/// A string of JSON, with its quotes. It is one of TOML as well, whatever the text holds.
[[nodiscard]] std::string json_text(std::string_view text);
/// The shortest text that gives the number back; NaN and infinity, which JSON does not know, are null.
[[nodiscard]] std::string json_number(double value);

}  // namespace cohort
