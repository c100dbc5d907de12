#pragma once

#include <cstddef>

namespace cohort::testing {

/// How often this program has called operator new so far (all threads, libraries included; malloc is not counted). Link
/// support/count_allocations.cpp into the test.
[[nodiscard]] std::size_t allocations() noexcept;

}  // namespace cohort::testing
