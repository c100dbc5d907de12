#include "job/start_watch.hpp"

#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "cohort/base/clock.hpp"
#include "job/launcher.hpp"

namespace cohort {
namespace {

constexpr double kSettle = 1;               // seconds for a launcher to end a job by itself once a rank has died
constexpr double kSilent = 3 * kNewsPeriod;
constexpr std::int32_t kMostRanks = 1 << 20;
constexpr std::size_t kAtOnce = 4096;       // ranks that may connect at the same moment
constexpr std::size_t kNamed = 8;           // of many ranks

double now() { return Clock::steady().now(); }

/// As many as it may: there is a connection to each rank. (The launcher, which is started before or after, is not to inherit it.)
std::size_t rank_connections() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 64 ? std::min<std::size_t>(limit.rlim_cur / 2, kAtOnce) : 64;
}

}  // namespace

bool StartWatch::may_leave_this_machine(const std::vector<std::string>& command) {
  const std::string launcher = std::filesystem::path(command.front()).filename().string();
  if (!launcher.starts_with("mpirun") && !launcher.starts_with("mpiexec") && !launcher.starts_with("orterun")) return true;
  for (const char* batch : {"SLURM_JOB_ID", "PBS_NODEFILE", "LSB_HOSTS", "LSB_DJOB_HOSTFILE", "PE_HOSTFILE", "OMPI_MCA_orte_default_hostfile",
                            "OMPI_MCA_mca_base_param_files"}) {
    if (!environment_variable(batch).empty()) return true;
  }
  return std::ranges::any_of(command, [](const std::string& word) {
    return word == "-H" || word == "-rf" || word == "--app" || (word.starts_with('-') && word.find("host") != std::string::npos) ||
           word.find("hostfile") != std::string::npos || word.find("machinefile") != std::string::npos || word.find("rankfile") != std::string::npos;
  });
}

StartWatch::StartWatch(double seconds, const std::vector<std::string>& command)
    : seconds_(seconds), token_((std::uint64_t{std::random_device{}()} << 32) ^ std::random_device{}()),
      listener_(may_leave_this_machine(command) ? kEverywhere : kLoopback), lobby_(rank_connections()) {
  std::string value = fmt::format("{} {} {}", token_, seconds_, listener_.port);
  for (const std::string& address : listener_.addresses) value += " " + address;
  setenv(kStartVariable, value.c_str(), 1);
}

void StartWatch::turn() {
  lobby_.take(listener_, now());
  StartNews news;
  bool leaves = false;
  const auto knows = [&](FrameKind kind, std::string_view body) {
    leaves = kind == FrameKind::goodbye;
    if (leaves) return news.token == token_;           // close behind its first news
    if (kind != FrameKind::report || body.size() != sizeof news) return false;
    std::memcpy(&news, body.data(), sizeof news);
    news.host.back() = '\0';
    return news.token == token_ && news.ranks > 0 && news.ranks <= kMostRanks && news.rank >= 0 && news.rank < news.ranks;
  };
  lobby_.hear(now(), knows, [&](Link&& link) { admit(std::move(link), std::exchange(news, {}), leaves); });
  for (Rank& rank : ranks_) hear(rank);
}

void StartWatch::admit(Link link, const StartNews& news, bool leaves) {
  const auto number = static_cast<std::size_t>(news.rank);
  const bool again = number < ranks_.size() && ranks_[number].seen && all_ended();       // a script that starts one job after the other
  if (again || ranks_.empty()) {
    ranks_ = std::vector<Rank>(static_cast<std::size_t>(news.ranks));
    begun_ = now();
    gone_at_ = 0;
    watched_ = false;
    first_gone_.clear();
  }
  if (number >= ranks_.size() || ranks_[number].seen) return;
  Rank& rank = ranks_[number];
  rank.seen = true;
  rank.heard = now();
  rank.news = news;
  rank.left = leaves;
  rank.link = std::move(link);
  watched_ = watched_ || news.stage == StartStage::watched;
}

void StartWatch::hear(Rank& rank) {
  if (!rank.link.open()) return;
  rank.link.receive([&](FrameKind kind, std::string_view body) {
    rank.heard = now();
    if (kind == FrameKind::goodbye) rank.left = true;
    if (kind != FrameKind::report || body.size() != sizeof rank.news) return;
    std::memcpy(&rank.news, body.data(), sizeof rank.news);
    rank.news.host.back() = '\0';
    watched_ = watched_ || rank.news.stage == StartStage::watched;
  });
  if (rank.link.open() || rank.left) return;
  // Who fails says so before it ends all others: then those who go without a word are not to blame.
  const bool to_blame = gone_at_ == 0 && std::ranges::none_of(ranks_, &Rank::left);
  rank.gone = true;
  if (gone_at_ == 0) gone_at_ = now();
  if (to_blame) first_gone_ = name(static_cast<std::size_t>(&rank - ranks_.data()));
}

bool StartWatch::all_ended() const { return std::ranges::all_of(ranks_, [](const Rank& rank) { return !rank.seen || rank.ended(); }); }

std::string StartWatch::name(std::size_t rank) const {
  const Rank& one = ranks_[rank];
  const std::string text = fmt::format("rank {} of {}", rank, ranks_.size());
  return one.seen ? fmt::format("{} on {} (process {})", text, one.news.host.data(), one.news.process) : text;
}

/// The ranks of one kind, and what is said of them; empty if there are none.
template <class Which>
std::string StartWatch::list(Which which, std::string_view what) const {
  std::string text;
  std::size_t count = 0;
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (!which(ranks_[rank]) || ++count > kNamed) continue;
    text += (text.empty() ? "" : ", ") + name(rank);
  }
  if (count > kNamed) text += fmt::format(" and {} more", count - kNamed);
  return text.empty() ? text : fmt::format("{} {}", text, what);
}

std::string StartWatch::trouble() const {
  if (ranks_.empty() || watched_ || all_ended()) return {};
  if (gone_at_ > 0 && now() > gone_at_ + kSettle) {
    return list([](const Rank& rank) { return rank.gone; }, "ended before all ranks had met, and the others would wait for it for ever");
  }
  if (now() < begun_ + seconds_) return {};
  const double time = now();
  const auto silent = [&](const Rank& rank) { return rank.seen && !rank.ended() && time > rank.heard + kSilent; };
  std::string who = list([](const Rank& rank) { return !rank.seen; }, "never began");
  const std::string quiet = list(silent, "does not answer: it is stopped, or behind a line that is cut");
  if (!quiet.empty()) who += (who.empty() ? "" : "; ") + quiet;
  if (who.empty()) who = list([](const Rank& rank) { return rank.news.stage == StartStage::begun; }, "is still in MPI_Init");
  if (who.empty()) who = "MPI is up, but the ranks have not met";
  return fmt::format("not all ranks had met {:g} s after the first of them began (--start-timeout): {}", seconds_, who);
}

void StartWatch::end_ranks() {
  for (Rank& rank : ranks_) rank.link.send(FrameKind::verdict);
}

bool StartWatch::only_rank_0_stays() const {
  const auto others_ended = [](const Rank& rank) { return rank.seen && rank.ended(); };
  return ranks_.size() > 1 && ranks_[0].seen && !ranks_[0].ended() && std::all_of(ranks_.begin() + 1, ranks_.end(), others_ended);
}

std::string StartWatch::still_there() const {
  return list([](const Rank& rank) { return rank.link.open(); }, "");
}

}  // namespace cohort
