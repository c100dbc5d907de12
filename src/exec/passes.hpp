#pragma once

#include <span>
#include <string_view>

#include "exec/plan.hpp"

namespace cohort {

/// One rewrite of a plan. It keeps the meaning of every fetch and feed; the plan is verified after each.
struct Pass {
  std::string_view name;
  void (*run)(Plan&);
};

/// The rewrites in the order in which they run.
[[nodiscard]] std::span<const Pass> passes();

void run_passes(Plan& plan);

}  // namespace cohort
