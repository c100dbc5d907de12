#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "exec/plan.hpp"

namespace cohort {

/// Where every value of a plan lives. Values that share memory (views, work done in place) form a group; groups of the
/// arena get an offset such that no two that live at the same time overlap.
struct MemoryPlan {
  enum class Place { arena, source, bound };

  struct Group {
    Place place = Place::arena;
    std::size_t bytes = 0, offset = 0;
    int first = 0, last = 0;              ///< positions of the first writer and the last reader
    int binding = -1;                     ///< fetch that is bound to somebody else's memory
    PlanValue source{};                   ///< for `source`: the node whose memory it is
  };

  std::vector<std::vector<int>> group;    ///< by node and output
  std::vector<Group> groups;
  std::size_t arena_bytes = 0;
  std::size_t least_arena_bytes = 0;      ///< the most that lives at one moment: no layout can do with less
};

struct MemoryRequest {
  std::vector<bool> bound_fetches;        ///< by fetch: may be computed directly in bound memory
  std::vector<bool> consumed{};         ///< by fetch, may be empty: its memory is free once it has been computed
  std::vector<bool> finishes_later;       ///< by node: its inputs and outputs are kept to the end of the step
  std::vector<std::vector<std::int64_t>> ld;   ///< by node and output: leading dimensions, see exec/leading_dimensions.hpp
};

/// Life times by plan order, in place where the op allows it and the input has no later reader, then first fit by size.
/// O(groups²).
[[nodiscard]] MemoryPlan plan_memory(const Plan& plan, const MemoryRequest& request);

}  // namespace cohort
