#include "tasks/blocks.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "cohort/comm/collective.hpp"

namespace cohort {
namespace {

/// By parameter. The last defined comes first in the flat space, so the order of creation is the other way round.
std::vector<std::size_t> owners(const ParameterLayout& layout, bool greedy, std::size_t tasks) {
  const auto all = layout.trained();
  std::vector<std::size_t> owner(all.size());
  std::vector<std::int64_t> loads(tasks, 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t p = all.size() - 1 - i;
    owner[p] = greedy ? static_cast<std::size_t>(std::ranges::min_element(loads) - loads.begin()) : i % tasks;
    loads[owner[p]] += all[p].shape.elements();
  }
  return owner;
}

}  // namespace

std::vector<Shard> deal_out(const ParameterLayout& layout, const std::string& strategy, int tasks) {
  std::vector<std::vector<FlatRange>> ranges(static_cast<std::size_t>(tasks));
  if (strategy == "flat") {
    for (int task = 0; task < tasks; ++task) {
      const Block block = block_of(task, tasks, static_cast<std::size_t>(layout.flat_size()));
      ranges[static_cast<std::size_t>(task)].push_back({static_cast<std::int64_t>(block.begin), static_cast<std::int64_t>(block.size)});
    }
  } else {
    const std::vector<std::size_t> owner = owners(layout, strategy == "greedy", ranges.size());
    for (std::size_t p = 0; p < owner.size(); ++p) {
      std::vector<FlatRange>& mine = ranges[owner[p]];
      const FlatRange range = layout.range(p, p + 1);
      if (!mine.empty() && mine.back().end() == range.begin) mine.back().n += range.n;
      else mine.push_back(range);
    }
  }
  std::vector<Shard> shards;
  for (const auto& mine : ranges) shards.emplace_back(mine, tasks);
  return shards;
}

std::string blocks_text(const ParameterLayout& layout, const std::vector<Shard>& shards) {
  std::string text = "blocks of the parameter tasks:";
  for (std::size_t task = 0; task < shards.size(); ++task) {
    text += fmt::format("\n  task {}, {:.2f} MiB:", task, static_cast<double>(shards[task].size()) * sizeof(float) / (1024.0 * 1024.0));
    for (std::size_t p = 0; p < layout.trained().size(); ++p) {
      const FlatRange whole = layout.range(p, p + 1), mine = shards[task].part_of(whole);
      if (mine.n == 0) continue;
      text += " " + layout.trained()[p].name;
      if (mine.n < whole.n) text += fmt::format(" [{}, {})", mine.begin - whole.begin, mine.end() - whole.begin);
    }
  }
  return text;
}

}  // namespace cohort
