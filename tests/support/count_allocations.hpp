#pragma once

#include <cstddef>

namespace cohort::testing {

/// How often this program has called operator new so far (all threads, libraries included; malloc is not counted). Link
/// support/count_allocations.cpp into the test.
[[nodiscard]] std::size_t allocations() noexcept;

/// From here on leaves out what is allocated by the code of a shared library, named by a part of its path; one library at a
/// time. False if no such library is loaded.
[[nodiscard]] bool leave_out_library(const char* part_of_name);

}  // namespace cohort::testing
