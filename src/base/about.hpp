#pragma once

#include <exception>
#include <string>
#include <utility>

namespace cohort {

/// In a catch block: throws what was caught again, with `what` and a colon before its text. An Error keeps its code and place;
/// memory, threads and whatever else the system refuses in its own bare words become an Error failed_precondition.
[[noreturn]] void rethrow_about(const std::string& what);

/// Runs `f`, and whatever it throws says what it was about: "data.train (file = \"a.csv\"): out of memory".
template <class F>
decltype(auto) about(const std::string& what, F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (...) {   // not handled, only worded
    rethrow_about(what);
  }
}

/// What an exception says that is not one of this project's: of memory that the system has not given, how much there is; of a
/// thread or file that it refuses, which limit that is; else its own text.
[[nodiscard]] std::string plain_text(const std::exception& exception);

}  // namespace cohort
