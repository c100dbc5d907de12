#pragma once

#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace cohort {

/// Canonical error codes: what kind of thing went wrong, so that a caller (or a test) can tell without reading the text.
enum class Code : std::uint8_t {
  invalid_argument,     ///< the input itself is wrong, whatever the state: a bad shape, option, flag
  not_found,            ///< a name or a file that does not exist
  failed_precondition,  ///< right in itself, wrong now: a step before start, ranks that do not agree
  out_of_range,         ///< past the end: an index, a position
  cancelled,            ///< somebody asked for the stop
  deadline_exceeded,    ///< a bounded wait ended
  data_loss,            ///< stored or sent data is damaged
  unavailable,          ///< a peer or a device is gone
  internal,             ///< a broken promise of this library
};

[[nodiscard]] std::string_view name(Code code) noexcept;

/// The one exception type. `what()` says what, where and what would be right; `where()` is the throwing line.
class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& what, std::source_location where = std::source_location::current())
      : std::runtime_error(what), code_(code), where_(where) {}
  [[nodiscard]] Code code() const noexcept { return code_; }
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }

 private:
  Code code_;
  std::source_location where_;
};

/// "src/exec/session.cpp:120": the path is cut to the project's part.
[[nodiscard]] std::string location_text(const std::source_location& where);

[[noreturn]] void fail(Code code, const std::string& what, std::source_location where = std::source_location::current());

/// Throws `Error` unless `ok`. On hot paths, and where the text has to be built, write `if (!ok) fail(...)` instead.
inline void check(bool ok, Code code, std::string_view what, std::source_location where = std::source_location::current()) {
  if (!ok) fail(code, std::string(what), where);
}

}  // namespace cohort
