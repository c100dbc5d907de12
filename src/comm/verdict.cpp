#include "comm/verdict.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <vector>

namespace cohort {
namespace {

using Ranks = std::vector<int>;
using Views = std::span<const RankView>;

constexpr double kLeftPatience = 2;     // seconds that a wait for a rank that has left may last
constexpr std::size_t kListed = 16;     // ranks that a message lists one by one

const RankView& view(Views ranks, int rank) { return ranks[static_cast<std::size_t>(rank)]; }

/// "rank 2", "ranks 0 1 3"
std::string list(const Ranks& ranks) {
  std::string text = ranks.size() == 1 ? "rank" : "ranks";
  for (std::size_t i = 0; i < std::min(ranks.size(), kListed); ++i) text += fmt::format(" {}", ranks[i]);
  if (ranks.size() > kListed) text += fmt::format(" and {} more", ranks.size() - kListed);
  return text;
}

/// "rank 2 on node7", "rank 2 on node7 and rank 3 on node8"
std::string list_with_hosts(Views ranks, const Ranks& which) {
  std::string text;
  for (std::size_t i = 0; i < std::min(which.size(), kListed); ++i) {
    text += fmt::format("{}rank {} on {}", i == 0 ? "" : ", ", which[i], view(ranks, which[i]).host);
  }
  if (which.size() > kListed) text += fmt::format(" and {} more", which.size() - kListed);
  return text;
}

bool waits(const RankView& rank) { return rank.connected && !rank.left && !rank.ended && rank.report.waits(); }

template <class Condition>
Ranks find(Views ranks, int only, const Condition& condition) {
  Ranks found;
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    if ((only < 0 || rank == only) && condition(view(ranks, rank))) found.push_back(rank);
  }
  return found;
}

/// Which ranks wait in what: "ranks 0 1 in all_reduce of bucket 3 at step 17, rank 4 in barrier"; rare waits first.
std::string waits_text(Views ranks, const Ranks& waiting) {
  std::map<std::string, Ranks> by_text;
  for (const int rank : waiting) by_text[view(ranks, rank).report.wait_text()].push_back(rank);
  std::vector<std::pair<std::string, Ranks>> groups(by_text.begin(), by_text.end());
  std::stable_sort(groups.begin(), groups.end(),
                   [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  std::string text;
  for (const auto& [what, who] : groups) text += fmt::format("{}{} in {}", text.empty() ? "" : ", ", list(who), what);
  return text;
}

/// "; ranks 0 1 3 wait for it in all_reduce of bucket 3 at step 17"
std::string waiters_text(Views ranks, const Ranks& culprits) {
  Ranks waiting = find(ranks, -1, waits);
  std::erase_if(waiting, [&](int rank) { return std::ranges::find(culprits, rank) != culprits.end(); });
  if (waiting.empty()) return {};
  return fmt::format("; waiting for {}: {}", culprits.size() == 1 ? "it" : "them", waits_text(ranks, waiting));
}

/// "all_reduce of bucket 3 at step 17", for several ranks each with its number
std::string places_text(Views ranks, const Ranks& which) {
  if (which.size() == 1) return view(ranks, which[0]).report.place_text();
  std::string text;
  for (std::size_t i = 0; i < std::min(which.size(), kListed); ++i) {
    text += fmt::format("{}rank {}: {}", i == 0 ? "" : ", ", which[i], view(ranks, which[i]).report.place_text());
  }
  return text;
}

/// Where the waits lead to: the ranks that hold up the others without waiting (for long) themselves.
class WaitGraph {
 public:
  WaitGraph(Views ranks, double timeout) : ranks_(ranks), timeout_(timeout) {
    for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
      if (age(rank) > timeout) follow(rank);
      else if (age(rank) > std::min(timeout, kLeftPatience)) follow_to_left(rank);
    }
  }
  [[nodiscard]] const std::set<int>& holding_up() const noexcept { return holding_up_; }
  [[nodiscard]] const std::set<int>& in_circle() const noexcept { return in_circle_; }
  [[nodiscard]] double longest() const noexcept { return longest_; }

 private:
  /// How long it has said that it waits: what a silent rank said last may be long over.
  [[nodiscard]] double age(int rank) const {
    const RankView& r = view(ranks_, rank);
    return waits(r) ? r.heard - r.waiting_since : 0;
  }
  [[nodiscard]] bool stuck(int rank) const { return age(rank) > timeout_ / 2; }   // a shorter wait may be one of many

  void follow(int rank) {
    longest_ = std::max(longest_, age(rank));
    std::set<int> passed;
    while (stuck(rank)) {
      if (!passed.insert(rank).second) {
        in_circle_.insert(passed.begin(), passed.end());
        return;
      }
      const int peer = view(ranks_, rank).report.peer;
      if (peer < 0 || peer >= static_cast<int>(ranks_.size())) return everyone_else();
      rank = peer;
    }
    holding_up_.insert(rank);
  }
  /// It did not say for whom it waits: whoever is not stuck in a wait itself may be the one.
  void everyone_else() {
    for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
      if (view(ranks_, rank).connected && !stuck(rank)) holding_up_.insert(rank);
      if (stuck(rank)) in_circle_.insert(rank);
    }
  }
  void follow_to_left(int rank) {
    const int peer = view(ranks_, rank).report.peer;
    if (peer < 0 || peer >= static_cast<int>(ranks_.size())) return;
    const double patience = std::min(timeout_, kLeftPatience);
    const RankView& other = view(ranks_, peer);
    if (!other.left || view(ranks_, rank).heard < other.left_at + patience) return;
    longest_ = std::max(longest_, age(rank));
    holding_up_.insert(peer);
  }

  Views ranks_;
  double timeout_;
  std::set<int> holding_up_, in_circle_;
  double longest_ = 0;
};

std::optional<Verdict> judge_ended(Views ranks, double now, int only) {
  const auto silently = [](const RankView& r) { return r.ended && r.failure.empty(); };
  if (find(ranks, only, [&](const RankView& r) { return silently(r) && now - r.ended_at >= kSettle; }).empty()) return {};
  const Ranks ended = find(ranks, only, silently);
  return Verdict{Verdict::Kind::lost,
                 fmt::format("{} ended before the job was done: killed, crashed or left by exit (last seen in {}){}",
                             list_with_hosts(ranks, ended), places_text(ranks, ended), waiters_text(ranks, ended))};
}

std::optional<Verdict> judge_failed(Views ranks, double now, int only) {
  const auto has_failed = [](const RankView& r) { return !r.failure.empty(); };
  const Ranks failed = find(ranks, only, has_failed);
  if (failed.empty() || std::ranges::all_of(ranks, has_failed)) return {};
  const int first = *std::ranges::min_element(failed, {}, [&](int rank) { return view(ranks, rank).failed_at; });
  const RankView& r = view(ranks, first);
  if (now - r.failed_at < kAllFail) return {};
  return Verdict{r.ended ? Verdict::Kind::lost : Verdict::Kind::failed,      // gone: it prints nothing any more
                 fmt::format("rank {} on {} failed in {}: {}", first, r.host, r.report.place_text(), r.failure)};
}

std::optional<Verdict> judge_silent(Views ranks, double now, double timeout, int only) {
  const Ranks silent =
      find(ranks, only, [&](const RankView& r) { return r.connected && !r.ended && now - r.heard > timeout; });
  if (silent.empty()) return {};
  double seconds = 0;
  for (const int rank : silent) seconds = std::max(seconds, now - view(ranks, rank).heard);
  return Verdict{Verdict::Kind::lost,
                 fmt::format("{} {} not answer (last seen in {}, {:.1f} s ago){}", list_with_hosts(ranks, silent),
                             silent.size() == 1 ? "does" : "do", places_text(ranks, silent), seconds,
                             waiters_text(ranks, silent))};
}

std::string late_text(Views ranks, const Ranks& late, bool silent) {
  const std::string who = list_with_hosts(ranks, late);
  const auto all = [&](const auto& condition) {
    return std::ranges::all_of(late, [&](int rank) { return condition(view(ranks, rank)); });
  };
  const char* does = late.size() == 1 ? "does" : "do";
  if (all([](const RankView& r) { return r.left; })) {
    return who + (late.size() == 1 ? " has" : " have") + " finished already";
  }
  return fmt::format("{} {} not {} (last seen in {})", who, does, silent ? "answer" : "move on", places_text(ranks, late));
}

std::optional<Verdict> judge_waits(Views ranks, double now, double timeout) {
  const WaitGraph graph(ranks, timeout);
  if (graph.holding_up().empty() && graph.in_circle().empty()) return {};
  // Where some ranks are silent already they are the reason, whatever they said last.
  const Ranks silent =
      find(ranks, -1, [&](const RankView& r) { return r.connected && !r.ended && now - r.heard > timeout / 2; });
  const Ranks late = silent.empty() ? Ranks(graph.holding_up().begin(), graph.holding_up().end()) : silent;
  if (!late.empty()) {
    return Verdict{Verdict::Kind::lost, fmt::format("{}{}, for {:.1f} s", late_text(ranks, late, !silent.empty()),
                                                    waiters_text(ranks, late), graph.longest())};
  }
  return Verdict{Verdict::Kind::lost, fmt::format("the ranks wait for each other since {:.1f} s: {}", graph.longest(),
                                                  waits_text(ranks, find(ranks, -1, waits)))};
}

}  // namespace

Report::Report(const WaitStatus& wait, StepPosition position)
    : wait_step(wait.step), step(position.step), since(wait.since), wait_bucket(wait.bucket), peer(wait.peer),
      bucket(position.bucket) {
  if (wait.operation == nullptr) return;
  const std::string_view name(wait.operation);
  std::copy_n(name.begin(), std::min(name.size(), operation.size() - 1), operation.begin());
}

std::string Report::wait_text() const {
  std::string text(operation.data());
  if (wait_bucket >= 0) text += fmt::format(" of bucket {}", wait_bucket);
  if (wait_step >= 0) text += fmt::format(" at step {}", wait_step);
  else if (step >= 0) text += fmt::format(" after step {}", step);
  return text;
}

std::string Report::place_text() const {
  if (waits()) return wait_text();
  if (step < 0) return "no step yet";
  return bucket < 0 ? fmt::format("step {}", step) : fmt::format("bucket {} of step {}", bucket, step);
}

void RankView::hear(const Report& next, double now) {
  const bool same_wait = next.waits() && report.waits() && next.since == report.since && next.operation == report.operation;
  if (!same_wait) waiting_since = now;
  report = next;
  heard = now;
}

void RankView::forgive(double seconds) noexcept {
  for (double* time : {&heard, &waiting_since, &left_at, &ended_at, &failed_at}) *time += seconds;
}

bool settling(std::span<const RankView> ranks, int only) {
  return !find(ranks, only, [](const RankView& r) { return r.ended && r.failure.empty(); }).empty();
}

std::optional<Verdict> judge(std::span<const RankView> ranks, double now, double timeout, int only) {
  // An end or an error explains all waits; a rank that does not answer explains those for it.
  if (auto verdict = judge_ended(ranks, now, only)) return verdict;
  if (settling(ranks, only)) return {};
  if (auto verdict = judge_failed(ranks, now, only)) return verdict;
  if (!find(ranks, only, [](const RankView& r) { return !r.failure.empty(); }).empty()) return {};
  if (auto verdict = judge_silent(ranks, now, timeout, only)) return verdict;
  return only < 0 ? judge_waits(ranks, now, timeout) : std::nullopt;
}

}  // namespace cohort
