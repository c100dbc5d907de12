#include "watch/verdict.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "base/disk_progress.hpp"

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

bool waits(const RankView& rank) {
  return rank.connected && !rank.left && !rank.ended && !rank.lost && rank.report.waits();
}

/// Ranks that are not lost and meet the condition.
template <class Condition>
Ranks find(Views ranks, int only, const Condition& condition) {
  Ranks found;
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    const RankView& r = view(ranks, rank);
    if ((only < 0 || rank == only) && !r.lost && condition(r)) found.push_back(rank);
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

/// "; waiting for it: ranks 0 1 3 in all_reduce of bucket 3 at step 17". Where the others go on it is only those who wait
/// for nobody else.
std::string waiters_text(Views ranks, const Ranks& culprits, bool go_on) {
  const auto among = [](const Ranks& some, int rank) { return std::ranges::find(some, rank) != some.end(); };
  Ranks waiting = find(ranks, -1, waits);
  std::erase_if(waiting, [&](int rank) {
    return among(culprits, rank) || (go_on && !among(culprits, view(ranks, rank).report.peer));
  });
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
      look_at_file(rank);
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
      if (view(ranks_, peer).lost) break;   // all know that: it should not wait any more
      rank = peer;
    }
    holding_up_.insert(rank);
  }
  /// It did not say for whom it waits: whoever is not stuck in a wait itself may be the one; nobody who has left, if there
  /// are others.
  void everyone_else() {
    Ranks suspects;
    for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
      const RankView& r = view(ranks_, rank);
      if (r.connected && !r.lost && !stuck(rank)) suspects.push_back(rank);
      if (stuck(rank)) in_circle_.insert(rank);
    }
    const auto has_left = [&](int rank) { return view(ranks_, rank).left; };
    if (!std::ranges::all_of(suspects, has_left)) std::erase_if(suspects, has_left);
    holding_up_.insert(suspects.begin(), suspects.end());
  }
  void look_at_file(int rank) {
    const RankView& r = view(ranks_, rank);
    const double still = r.heard - r.moved_at;
    if (!r.connected || r.left || r.ended || r.lost || !r.report.writes() || still <= timeout_) return;
    longest_ = std::max(longest_, still);
    holding_up_.insert(rank);
  }
  void follow_to_left(int rank) {
    const int peer = view(ranks_, rank).report.peer;
    if (peer < 0 || peer >= static_cast<int>(ranks_.size())) return;
    const double patience = std::min(timeout_, kLeftPatience);
    const RankView& other = view(ranks_, peer);
    if (!other.left || other.lost || view(ranks_, rank).heard < other.left_at + patience) return;
    longest_ = std::max(longest_, age(rank));
    holding_up_.insert(peer);
  }

  Views ranks_;
  double timeout_;
  std::set<int> holding_up_, in_circle_;
  double longest_ = 0;
};

bool ended_silently(const RankView& rank) { return rank.ended && rank.failure.empty(); }
bool has_failed(const RankView& rank) { return !rank.failure.empty(); }

std::optional<Trouble> find_ended(Views ranks, double now, int only) {
  const Ranks due = find(ranks, only, [&](const RankView& r) {
    return ended_silently(r) && now - r.ended_at >= (r.may_be_lost ? kLossSettle : kSettle);
  });
  if (due.empty()) return {};
  const bool can_do_without = std::ranges::all_of(due, [&](int rank) { return view(ranks, rank).may_be_lost; });
  return Trouble{Trouble::Kind::ended, can_do_without ? due : find(ranks, only, ended_silently)};
}

std::optional<Trouble> find_failed(Views ranks, double now, int only) {
  const Ranks failed = find(ranks, only, has_failed);
  if (failed.empty() || std::ranges::all_of(ranks, [](const RankView& r) { return r.lost || has_failed(r); })) return {};
  const int first = *std::ranges::min_element(failed, {}, [&](int rank) { return view(ranks, rank).failed_at; });
  if (now - view(ranks, first).failed_at < kAllFail) return {};
  return Trouble{Trouble::Kind::failed, {first}};
}

std::optional<Trouble> find_silent(Views ranks, double now, double timeout, int only) {
  const Ranks silent = find(ranks, only, [&](const RankView& r) {
    return r.connected && !r.ended && r.silent_for(now) > (r.patience > 0 ? r.patience : timeout);
  });
  if (silent.empty()) return {};
  return Trouble{Trouble::Kind::silent, silent};
}

std::optional<Trouble> find_waits(Views ranks, double now, double timeout) {
  const WaitGraph graph(ranks, timeout);
  if (graph.holding_up().empty() && graph.in_circle().empty()) return {};
  // Where some ranks are silent already they are the reason, whatever they said last.
  const Ranks silent =
      find(ranks, -1, [&](const RankView& r) { return r.connected && !r.ended && now - r.heard > timeout / 2; });
  const Ranks late = silent.empty() ? Ranks(graph.holding_up().begin(), graph.holding_up().end()) : silent;
  return Trouble{late.empty() ? Trouble::Kind::circle : Trouble::Kind::late, late, graph.longest(), !silent.empty()};
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

/// `go_on`: the others will.
std::string text_of(Views ranks, const Trouble& trouble, double now, bool go_on) {
  const Ranks& who = trouble.ranks;
  switch (trouble.kind) {
    case Trouble::Kind::ended:
      return fmt::format("{} ended before the job was done: killed, crashed or left by exit (last seen in {}){}",
                         list_with_hosts(ranks, who), places_text(ranks, who), waiters_text(ranks, who, go_on));
    case Trouble::Kind::failed: {
      const RankView& r = view(ranks, who.front());
      return fmt::format("rank {} on {} failed in {}: {}", who.front(), r.host, r.failed_in, r.failure);
    }
    case Trouble::Kind::silent: {
      double seconds = 0;
      for (const int rank : who) seconds = std::max(seconds, now - view(ranks, rank).heard);
      return fmt::format("{} {} not answer (last seen in {}, {:.1f} s ago){}", list_with_hosts(ranks, who),
                         who.size() == 1 ? "does" : "do", places_text(ranks, who), seconds, waiters_text(ranks, who, go_on));
    }
    case Trouble::Kind::late:
      return fmt::format("{}{}, for {:.1f} s", late_text(ranks, who, trouble.silent), waiters_text(ranks, who, go_on),
                         trouble.seconds);
    case Trouble::Kind::circle: break;
  }
  return fmt::format("the ranks wait for each other since {:.1f} s: {}", trouble.seconds,
                     waits_text(ranks, find(ranks, -1, waits)));
}

}  // namespace

Report::Report(const WaitStatus& wait, StepPosition position, const DiskProgress* disk)
    : wait_step(wait.step), step(position.step), since(wait.since), wait_bucket(wait.bucket), peer(wait.peer),
      bucket(position.bucket) {
  if (disk != nullptr) {
    const DiskProgress::Now now = disk->now();
    const std::string name = now.file.empty() ? "a file" : now.file;
    std::copy_n(name.begin(), std::min(name.size(), file.size() - 1), file.begin());
    megabytes_per_second = now.megabytes_per_second;
    moves = now.moves;
  }
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
  if (writes()) return fmt::format("writing {}, {:.3g} MB/s", file.data(), megabytes_per_second);
  if (waits()) return wait_text();
  if (step < 0) return "no step yet";
  return bucket < 0 ? fmt::format("step {}", step) : fmt::format("bucket {} of step {}", bucket, step);
}

bool RankView::hear(const Report& next, double now) {
  const bool moves = next.writes() && (!report.writes() || next.moves != report.moves);
  if (moves) moved_at = now;
  const bool same_wait = next.waits() && report.waits() && next.since == report.since && next.operation == report.operation;
  if (!same_wait) waiting_since = now;
  report = next;
  heard = now;
  return moves;
}

void RankView::forgive(double seconds) noexcept {
  for (double* time : {&heard, &waiting_since, &left_at, &ended_at, &failed_at, &patient_since, &moved_at}) *time += seconds;
}

bool settling(std::span<const RankView> ranks, int only) { return !find(ranks, only, ended_silently).empty(); }

std::optional<Trouble> find_trouble(std::span<const RankView> ranks, double now, double timeout, int only) {
  // An end or an error explains all waits; a rank that does not answer explains those for it.
  if (auto trouble = find_ended(ranks, now, only)) return trouble;
  if (settling(ranks, only)) return {};
  if (auto trouble = find_failed(ranks, now, only)) return trouble;
  if (!find(ranks, only, has_failed).empty()) return {};
  if (auto trouble = find_silent(ranks, now, timeout, only)) return trouble;
  return only < 0 ? find_waits(ranks, now, timeout) : std::nullopt;
}

Verdict verdict_on(std::span<const RankView> ranks, const Trouble& trouble, double now) {
  // A rank that has failed prints that itself, unless it is gone.
  const bool speaks = trouble.kind == Trouble::Kind::failed && !view(ranks, trouble.ranks.front()).ended;
  return {speaks ? Verdict::Kind::failed : Verdict::Kind::lost, text_of(ranks, trouble, now, false)};
}

std::string trouble_text(std::span<const RankView> ranks, const Trouble& trouble, int rank, double now) {
  return text_of(ranks, {trouble.kind, {rank}, trouble.seconds, trouble.silent}, now, true);
}

bool all_left(std::span<const RankView> ranks) noexcept {
  return std::ranges::all_of(ranks, [](const RankView& rank) { return rank.left || rank.lost; });
}

void mark_lost(std::span<RankView> ranks, int rank, double now) {
  RankView& view = ranks[static_cast<std::size_t>(rank)];
  if (view.lost) return;
  view.lost = true;
  for (RankView& other : ranks) other.waiting_since = now;
}

void miss_replacements(std::span<RankView> ranks, double now, double patience) {
  for (RankView& view : ranks) {
    if (view.awaited_since == 0 || view.connected || view.ended || now < view.awaited_since + patience) continue;
    view.ended = true;
    view.ended_at = now;
  }
}

}  // namespace cohort
