#include "cohort/watch/detector.hpp"

#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "watch/farewells.hpp"
#include "watch/loss_news.hpp"
#include "watch/meeting.hpp"
#include "watch/notices.hpp"
#include "watch/reporter.hpp"

namespace cohort {
DetectorOptions::DetectorOptions(Section& section) {
  section.bind("timeout", timeout, "seconds that a rank may be silent or be waited for before the job ends, or that a disk may take nothing; 0: no watchdog",
               between(0, 1e8));
  section.bind("interface", interface, "where ranks 0 and 1 listen for the others, if those are on several machines: auto: the network towards rank "
               "0 that all share; all; or an interface (eth0), an address or a network (10.0.0.0/8)");
}

double DetectorOptions::period() const noexcept { return std::clamp(timeout / 20, 0.02, 1.0); }

double DetectorOptions::communicator_timeout() const noexcept {
  constexpr double kForEver = 1e9;
  return timeout > 0 ? 1.5 * timeout + 2 : kForEver;
}

/// A rank's side: a thread that sends heartbeats and waits for a verdict.
class Detector::Member {
 public:
  Member(WatchedRank rank, std::unique_ptr<WatchChannel> channel, Meeting meeting, std::function<void(const Verdict&)> last_resort)
      : rank_(std::move(rank)), channel_(std::move(channel)), last_resort_(std::move(last_resort)), meeting_(std::move(meeting)),
        reporter_(*rank_.activity, notices_, meeting_.links, meeting_.period),
        thread_([this](const std::stop_token& stop) { run(stop); }) {}
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  ~Member() {
    thread_.request_stop();
    notices_.wake_up().signal();
  }

  void close() {
    notices_.leave();
    channel_->wait_for_the_end([this] { return notices_.free_to_go(); });
  }
  void report_failure(const std::string& reason) { notices_.fail(reason, report_of(*rank_.activity)); }
  [[nodiscard]] Notices& notices() noexcept { return notices_; }

 private:
  void run(const std::stop_token& stop);
  void wait_for_events(double until);
  void listen();
  void on_frame(std::size_t coordinator, FrameKind kind, std::string_view body);
  void note_losses();
  void judge_alone();
  void accept(const Verdict& verdict);
  void resort_to_last();
  [[nodiscard]] bool lost(std::size_t coordinator) const {
    return rank_.membership->times_lost(static_cast<int>(coordinator)) > 0;
  }

  WatchedRank rank_;
  std::unique_ptr<WatchChannel> channel_;
  std::function<void(const Verdict&)> last_resort_;
  Notices notices_;

  // Of the thread, once it runs.
  Meeting meeting_;
  Reporter reporter_;
  LossNews losses_;
  Farewells farewells_;
  bool resorted_ = false;
  double verdict_at_ = 0, alone_since_ = 0;      // 0: not yet
  std::jthread thread_;
};

void Detector::Member::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    reporter_.send_notices();
    reporter_.report_if_due(steady_seconds());
    wait_for_events(reporter_.due());
    listen();
    note_losses();
    if (farewells_.complete(meeting_.links, *rank_.membership, steady_seconds())) notices_.let_go();
    judge_alone();
    resort_to_last();
  }
  reporter_.send_notices();
  end_gently(meeting_.links, kFlushSeconds);
}

void Detector::Member::wait_for_events(double until) {
  std::array<pollfd, kCoordinators + 1> waiting{};
  waiting[0] = {.fd = notices_.wake_up().fd(), .events = POLLIN, .revents = 0};
  for (std::size_t c = 0; c < kCoordinators; ++c) {   // a negative fd is left out
    waiting[c + 1] = {.fd = meeting_.links[c].open() ? meeting_.links[c].fd() : -1, .events = POLLIN, .revents = 0};
  }
  poll(waiting.data(), waiting.size(), std::max(0, static_cast<int>((until - steady_seconds()) * 1000)) + 1);
  notices_.wake_up().clear();
}

void Detector::Member::listen() {
  for (std::size_t c = 0; c < kCoordinators; ++c) {
    Link& link = meeting_.links[c];
    if (link.open()) link.receive([&](FrameKind kind, std::string_view body) { on_frame(c, kind, body); });
  }
}

void Detector::Member::on_frame(std::size_t coordinator, FrameKind kind, std::string_view body) {
  if (kind == FrameKind::query) reporter_.send_report();
  if (kind == FrameKind::verdict && !body.empty()) {
    accept({.kind = static_cast<Verdict::Kind>(body[0]), .text = std::string(body.substr(1))});
  }
  if (kind == FrameKind::loss) losses_.hear(body);
  if (double period = 0; kind == FrameKind::pace && body.size() == sizeof period) {
    std::memcpy(&period, body.data(), sizeof period);
    reporter_.hasten(period);
  }
  if (kind == FrameKind::patience) rank_.activity->excuse(rank_.context.clock->now());
  if (kind == FrameKind::farewell) farewells_.hear(coordinator, steady_seconds());
}

void Detector::Member::note_losses() {
  const int me = rank_.context.rank;
  if (const std::optional<std::string> why = losses_.enter(*rank_.membership, me)) accept({Verdict::Kind::excluded, *why});
  for (std::size_t c = 0; c < kCoordinators; ++c) {   // what a lost coordinator says when it wakes up is of no interest
    Link& link = meeting_.links[c];
    if (link.open() && lost(c) && me != static_cast<int>(c)) link.close();
  }
}

/// Both coordinators have gone without a word, so nobody is left who could speak for all.
void Detector::Member::judge_alone() {
  const bool alone = std::ranges::none_of(meeting_.links, [](const Link& link) { return link.open(); });
  if (!alone || farewells_.any() || notices_.acknowledged()) return;
  if (notices_.verdict().kind != Verdict::Kind::none) return;
  if (alone_since_ == 0) alone_since_ = steady_seconds();
  if (steady_seconds() - alone_since_ < kSettle) return;
  const std::string first = fmt::format("rank 0 on {}", meeting_.hosts[0]);
  if (rank_.membership->may_lose(rank_.context.rank)) {
    constexpr auto kAlone = "no connection any more to {}, which has ended, or goes on without this rank";
    return accept({Verdict::Kind::excluded, fmt::format(kAlone, first)});
  }
  const std::string who = lost(1) ? first : fmt::format("{} and rank 1 on {}", first, meeting_.hosts[1]);
  const Verdict mine{Verdict::Kind::lost, who + " ended before the job was done"};
  rank_.context.log.error(mine.text);
  accept(mine);
}

void Detector::Member::accept(const Verdict& verdict) {
  if (!notices_.decide(verdict)) return;
  if (meeting_.coordinator != nullptr) meeting_.coordinator->stand_down();
  verdict_at_ = steady_seconds();
  rank_.cancel->set(verdict.text);
}

void Detector::Member::resort_to_last() {
  if (resorted_ || verdict_at_ == 0 || notices_.acknowledged()) return;
  if (steady_seconds() < verdict_at_ + kGrace) return;
  resorted_ = true;
  last_resort_(notices_.verdict());
}

Detector::Detector(WatchedRank rank, const DetectorOptions& options, std::function<void(const Verdict&)> last_resort) {
  if (rank.machines.size() == 1 || options.timeout <= 0) return;
  std::unique_ptr<WatchChannel> channel = rank.open_channel();
  std::optional<Meeting> meeting = meet_coordinators(rank, *channel, options);
  if (meeting) member_ = std::make_unique<Member>(std::move(rank), std::move(channel), std::move(*meeting), std::move(last_resort));
}

Detector::Detector(std::unique_ptr<Member> member) : member_(std::move(member)) {}

std::unique_ptr<Detector> Detector::of_replacement(WatchedRank rank, const DetectorOptions& options,
                                                   std::function<void(const Verdict&)> last_resort) {
  std::unique_ptr<Member> member;
  if (!rank.membership->door().empty()) {
    std::unique_ptr<WatchChannel> channel = rank.open_channel();
    Meeting meeting = meet_at_door(rank, options);
    member = std::make_unique<Member>(std::move(rank), std::move(channel), std::move(meeting), std::move(last_resort));
  }
  return std::unique_ptr<Detector>(new Detector(std::move(member)));
}

Detector::~Detector() = default;

void Detector::close() {
  if (member_ != nullptr) member_->close();
}
void Detector::report_failure(const std::string& reason) {
  if (member_ != nullptr) member_->report_failure(reason);
}
void Detector::acknowledge() noexcept {
  if (member_ != nullptr) member_->notices().acknowledge();
}
Verdict Detector::verdict() const { return member_ != nullptr ? member_->notices().verdict() : Verdict{}; }
bool Detector::active() const noexcept { return member_ != nullptr; }

}  // namespace cohort
