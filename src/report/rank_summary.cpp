#include "report/rank_summary.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "cohort/base/json.hpp"

namespace cohort {
namespace {

constexpr std::size_t kMostLines = 16;
constexpr double kMiB = 1024.0 * 1024.0;

constexpr std::array<const char*, kPhases> kColumns{"compute", "communic.", "slowest", "data", "checkpoint", "validation", "other"};

struct Purpose {
  const char* key;
  const char* column;
  std::int64_t MemorySummary::*bytes;
};
constexpr std::array<Purpose, 9> kPurposes{{{"parameters", "parameters", &MemorySummary::parameters},
                                            {"gradients", "gradients", &MemorySummary::gradients},
                                            {"slots", "slots", &MemorySummary::slots},
                                            {"activations", "activations", &MemorySummary::activations},
                                            {"kernels", "kernels", &MemorySummary::kernels},
                                            {"batches", "batches", &MemorySummary::batches},
                                            {"communication", "communic.", &MemorySummary::communication},
                                            {"device_total", "on device", &MemorySummary::device_total},
                                            {"least", "least", &MemorySummary::least}}};

double computing_share(const RankSummary& rank) {
  return rank.wall > 0 ? rank.seconds[static_cast<std::size_t>(Phase::compute)] / rank.wall : 0;
}

/// The ranks that get a line, in order.
std::set<std::size_t> chosen(std::span<const RankSummary> ranks) {
  std::set<std::size_t> result;
  if (ranks.size() <= kMostLines) {
    for (std::size_t r = 0; r < ranks.size(); ++r) result.insert(r);
    return result;
  }
  const auto [least, most] = std::minmax_element(ranks.begin(), ranks.end(), [](const RankSummary& a, const RankSummary& b) {
    return computing_share(a) < computing_share(b);
  });
  return {0, static_cast<std::size_t>(least - ranks.begin()), static_cast<std::size_t>(most - ranks.begin()), ranks.size() - 1};
}

std::string name_of(std::size_t rank, const RankSummary& summary) { return fmt::format("{} {}", rank, summary.host.data()); }

std::string time_line(std::size_t r, const RankSummary& rank, std::size_t width) {
  std::string line = fmt::format("  {:<{}} {:>8.2f} s", name_of(r, rank), width, rank.wall);
  for (const double seconds : rank.seconds) line += fmt::format(" {:>8.1f} %", rank.wall > 0 ? 100 * seconds / rank.wall : 0);
  return line + fmt::format(" {:>9.3f} {:>9.3f} {:>11.0f} {:>9.2f}\n", rank.p50 * 1e3, rank.p95 * 1e3, rank.samples_per_second(),
                            rank.flops_per_second() / 1e9);
}

std::string memory_line(std::size_t r, const RankSummary& rank, std::size_t width) {
  std::string line = fmt::format("  {:<{}}", name_of(r, rank), width);
  for (const Purpose& purpose : kPurposes) line += fmt::format(" {:>11.2f}", static_cast<double>(rank.memory.*purpose.bytes) / kMiB);
  return line + fmt::format(" {:>7.3f}\n", rank.memory.ratio());
}

std::string json_times(const PhaseTimes& times) {
  std::string text;
  for (std::size_t p = 0; p < kPhases; ++p) {
    text += fmt::format("{}{}:{}", p == 0 ? "{" : ",", json_text(key(static_cast<Phase>(p))), json_number(times[p]));
  }
  return text + "}";
}

std::string json_rank(std::size_t r, const RankSummary& rank) {
  std::string text = fmt::format(R"({{"rank":{},"host":{},"wall_seconds":{},"seconds":{},)", r, json_text(rank.host.data()),
                                 json_number(rank.wall), json_times(rank.seconds));
  text += fmt::format(R"("steps":{},"step_seconds":{{"sum":{},"p50":{},"p95":{},"phases_p50":{},"phases_p95":{}}},)", rank.steps,
                      json_number(rank.step_seconds), json_number(rank.p50), json_number(rank.p95), json_times(rank.step_p50),
                      json_times(rank.step_p95));
  text += fmt::format(R"("samples":{},"samples_per_second":{},"flops":{},"flops_per_second":{},"memory_bytes":{{)", rank.samples,
                      json_number(rank.samples_per_second()), json_number(rank.flops), json_number(rank.flops_per_second()));
  for (const Purpose& purpose : kPurposes) text += fmt::format("{}:{},", json_text(purpose.key), rank.memory.*purpose.bytes);
  return text + fmt::format(R"("ratio":{}}}}})", json_number(rank.memory.ratio()));
}

}  // namespace

void RankSummary::set_host(const std::string& name) {
  host.fill('\0');
  std::memcpy(host.data(), name.data(), std::min(name.size(), host.size() - 1));
}

RankSummary summary_of(const Profile& profile) {
  RankSummary summary;
  summary.wall = profile.wall();
  summary.seconds = profile.times();
  for (std::size_t p = 0; p < kPhases; ++p) {
    summary.step_p50[p] = profile.phase_quantile(static_cast<Phase>(p), 0.5);
    summary.step_p95[p] = profile.phase_quantile(static_cast<Phase>(p), 0.95);
  }
  summary.p50 = profile.step_quantile(0.5);
  summary.p95 = profile.step_quantile(0.95);
  summary.step_seconds = profile.step_seconds();
  summary.steps = profile.steps();
  return summary;
}

std::string summary_table(std::span<const RankSummary> ranks) {
  std::size_t width = 4;
  for (const std::size_t r : chosen(ranks)) width = std::max(width, name_of(r, ranks[r]).size());
  std::string text = fmt::format("where the time went\n  {:<{}} {:>10}", "rank", width, "wall");
  for (const char* column : kColumns) text += fmt::format(" {:>10}", column);
  text += fmt::format(" {:>9} {:>9} {:>11} {:>9}\n", "step p50", "p95 ms", "samples/s", "GFLOP/s");
  for (const std::size_t r : chosen(ranks)) text += time_line(r, ranks[r], width);
  text += fmt::format("memory in MiB\n  {:<{}}", "rank", width);
  for (const Purpose& purpose : kPurposes) text += fmt::format(" {:>11}", purpose.column);
  text += fmt::format(" {:>7}\n", "ratio");
  for (const std::size_t r : chosen(ranks)) text += memory_line(r, ranks[r], width);
  text.pop_back();
  return text;
}

std::string summary_json(std::span<const RankSummary> ranks, const std::string& configuration) {
  std::string text = "{\"phases\":{";
  for (std::size_t p = 0; p < kPhases; ++p) {
    const auto phase = static_cast<Phase>(p);
    text += fmt::format("{}{}:{}", p == 0 ? "" : ",", json_text(key(phase)), json_text(name(phase)));
  }
  text += "},\n\"ranks\":[\n";
  for (std::size_t r = 0; r < ranks.size(); ++r) text += json_rank(r, ranks[r]) + (r + 1 < ranks.size() ? ",\n" : "\n");
  return text + "],\n\"configuration\":" + json_text(configuration) + "}\n";
}

}  // namespace cohort
