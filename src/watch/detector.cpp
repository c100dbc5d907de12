#include "cohort/watch/detector.hpp"

#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include "cohort/base/error.hpp"
#include "watch/coordinator.hpp"
#include "watch/interfaces.hpp"
#include "watch/socket.hpp"
#include "watch/verdict.hpp"

namespace cohort {
namespace {

constexpr double kConnectSeconds = 5;      // to each address of a coordinator
constexpr double kFlushSeconds = 0.5;
constexpr double kLateFarewell = 1;        // behind the other coordinator's
constexpr std::size_t kCoordinators = 2;   // on ranks 0 and 1

double now() { return Clock::steady().now(); }

struct Loss {
  LossHead head;
  std::string reason;
};

template <class T>
std::string_view as_body(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// A coordinator's welcome, which proves that it is ours: other jobs and other machines may listen at the same address.
bool greet(Link& link, const Hello& hello) {
  link.send(FrameKind::hello, as_body(hello));
  bool welcome = false;
  for (const double end = now() + kConnectSeconds; now() < end && link.open() && !welcome;) {
    pollfd waiting{.fd = link.fd(), .events = POLLIN, .revents = 0};
    poll(&waiting, 1, 100);
    link.receive([&](FrameKind kind, std::string_view body) {
      welcome = kind == FrameKind::welcome && body == as_body(hello);
    });
  }
  return welcome;
}

/// Closed if the coordinator cannot be reached.
Link connect_to_coordinator(const std::string& address, const Hello& hello) {
  std::istringstream words(address);
  std::uint16_t port = 0;
  words >> port;
  for (std::string host; words >> host;) {
    Link link(connect_to(host, port, kConnectSeconds));
    if (link.open() && greet(link, hello)) return link;
  }
  return {};
}

}  // namespace

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

/// A rank's side: sends heartbeats and waits for a verdict.
class Detector::Member {
 public:
  /// Collective.
  Member(WatchedRank rank, const DetectorOptions& options, std::function<void(const Verdict&)> last_resort)
      : rank_(std::move(rank)), channel_(rank_.open_channel()), period_(options.period()), last_resort_(std::move(last_resort)) {
    connect(options);
    if (connected_) start();
  }
  /// Of a replacement: with rank 0's coordinator alone, at its door.
  Member(WatchedRank rank, const DetectorOptions& options, std::function<void(const Verdict&)> last_resort, const std::string& door)
      : rank_(std::move(rank)), channel_(rank_.open_channel()), period_(options.period()), last_resort_(std::move(last_resort)) {
    connect_at(door);
    start();
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  ~Member() {
    thread_.request_stop();
    wake_.signal();
  }

  [[nodiscard]] bool connected() const noexcept { return connected_; }

  void close();
  void report_failure(const std::string& reason) {
    const Report report = report_now();           // where it failed
    {
      const std::lock_guard lock(mutex_);
      if (failure_.empty()) failed_in_ = report, failure_ = reason;
    }
    acknowledge();
    wake_.signal();
  }
  void acknowledge() noexcept { acknowledged_.store(true, std::memory_order_release); }
  [[nodiscard]] Verdict verdict() const {
    const std::lock_guard lock(mutex_);
    return verdict_;
  }

 private:
  void connect(const DetectorOptions& options);
  void connect_at(const std::string& door);
  void start() {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  [[nodiscard]] std::string where_to_listen(const std::string& choice);
  [[nodiscard]] std::vector<std::string> start_coordinators(const DetectorOptions& options, std::uint64_t token);
  void run(const std::stop_token& stop);
  void wait_for_events(double until);
  void listen();
  void judge_alone();
  [[nodiscard]] Report report_now() const;
  void send_report();
  void send_messages();
  void hear_loss(std::string_view body);
  void note_losses();
  void be_excluded(const std::string& text) { accept({Verdict::Kind::excluded, text}); }
  void accept(const Verdict& verdict);
  void look_for_farewells();
  void resort_to_last();
  [[nodiscard]] bool lost(std::size_t coordinator) const {
    return rank_.membership->times_lost(static_cast<int>(coordinator)) > 0;
  }
  [[nodiscard]] int rank() const noexcept { return rank_.context.rank; }

  WatchedRank rank_;
  std::unique_ptr<WatchChannel> channel_;
  double period_;
  std::function<void(const Verdict&)> last_resort_;
  bool connected_ = false;
  std::unique_ptr<Coordinator> coordinator_;     // ranks 0 and 1 only
  std::vector<std::string> hosts_;

  // Of the thread, once it runs.
  std::array<Link, kCoordinators> links_;
  std::array<bool, kCoordinators> farewell_{};
  std::vector<Loss> losses_;                     // that this rank's membership does not have yet
  bool failure_sent_ = false, goodbye_sent_ = false, resorted_ = false;
  double next_report_ = 0, verdict_at_ = 0, alone_since_ = 0, farewell_at_ = 0;

  mutable std::mutex mutex_;
  std::string failure_;                          // guarded, like
  Report failed_in_;                             // and
  Verdict verdict_;
  std::atomic<bool> acknowledged_{false}, leaving_{false}, free_to_go_{false};
  WakeUp wake_;
  std::jthread thread_;
};

/// Collective. The address by which all other machines reach this one; of ranks 0 and 1 the user's choice is checked by all alike.
std::string Detector::Member::where_to_listen(const std::string& choice) {
  const std::vector<int>& machines = rank_.machines;
  if (std::ranges::all_of(machines, [&](int machine) { return machine == machines[0]; })) return kLoopback;
  std::vector<std::vector<Interface>> all;
  for (const std::string& text : channel_->all_gather(interfaces_text(interfaces_of_this_machine()))) all.push_back(interfaces_in(text));
  if (choice == "all") return kEverywhere;
  for (std::size_t c = 0; choice != "auto" && c < kCoordinators; ++c) {
    check(!chosen_interfaces(all[c], choice).empty(), Code::invalid_argument,
          fmt::format("watchdog.interface = \"{}\": rank {} on {} has no such interface or address, but: {}", choice, c, hosts_[c],
                      interfaces_text(all[c])));
  }
  std::vector<std::vector<Interface>> others;
  const std::size_t me = static_cast<std::size_t>(rank());
  for (std::size_t other = 0; other < machines.size(); ++other) {
    if (machines[other] != machines[me]) others.push_back(all[other]);
  }
  const std::vector<Interface>& mine = all[me];
  const std::vector<Interface> chosen = choice == "auto" ? mine : chosen_interfaces(mine, choice);
  return chosen.size() == 1 ? chosen.front().address : address_towards(chosen, others);
}

std::vector<std::string> Detector::Member::start_coordinators(const DetectorOptions& options, std::uint64_t token) {
  const std::string listen = where_to_listen(options.interface);
  std::string address;
  if (rank() < static_cast<int>(kCoordinators)) {
    coordinator_ = std::make_unique<Coordinator>(
        CoordinatorOptions{.hosts = hosts_, .token = token, .timeout = options.timeout, .period = period_,
                           .only = rank() == 0 ? -1 : 0, .listen = listen,
                           .rank = rank(), .membership = rank_.membership},
        rank_.context.log);
    address = coordinator_->address();
  }
  return channel_->all_gather(address);
}

void Detector::Member::connect(const DetectorOptions& options) {
  hosts_ = channel_->all_gather(rank_.context.host);
  std::uint64_t token = 0;
  if (rank() == 0) token = (std::uint64_t{std::random_device{}()} << 32) ^ std::random_device{}();
  channel_->broadcast(std::as_writable_bytes(std::span(&token, 1)));
  const std::vector<std::string> addresses = start_coordinators(options, token);
  std::string unreachable;
  for (std::size_t c = 0; c < kCoordinators; ++c) {
    links_[c] = connect_to_coordinator(addresses[c], {.token = token, .rank = rank()});
    if (!links_[c].open()) unreachable = fmt::format("rank {} on {} at {}", c, hosts_[c], addresses[c]);
  }
  const std::vector<std::string> failed = channel_->all_gather(unreachable);
  const auto first = std::ranges::find_if(failed, [](const std::string& text) { return !text.empty(); });
  connected_ = first == failed.end();
  if (connected_ && rank() == 0) rank_.membership->set_door(fmt::format("{} {} {}", hosts_[0], token, addresses[0]));
  if (connected_) return;
  coordinator_.reset();
  if (rank() != 0) return;
  const auto rank = static_cast<std::size_t>(first - failed.begin());
  rank_.context.log.warning(fmt::format("no watchdog: rank {} on {} cannot connect to {}; ranks in trouble are only "
                                             "noticed by long waits", rank, hosts_[rank], *first));
}

void Detector::Member::connect_at(const std::string& door) {
  std::istringstream words(door);
  std::uint64_t token = 0;
  words >> hosts_.emplace_back() >> token >> std::ws;
  std::string address;
  std::getline(words, address);
  links_[0] = connect_to_coordinator(address, {.token = token, .rank = rank()});
  connected_ = links_[0].open();
  period_ = std::min(period_, rank_.membership->heartbeat_timeout() / kBeats);
  check(connected_, Code::unavailable, fmt::format("rank {} cannot connect to rank 0 on {}, which watches over the ranks", rank(), hosts_[0]));
}

void Detector::Member::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    send_messages();
    if (now() >= next_report_) {
      send_report();
      next_report_ = now() + period_;
    }
    wait_for_events(next_report_);
    listen();
    note_losses();
    look_for_farewells();
    judge_alone();
    resort_to_last();
  }
  send_messages();
  end_gently(links_, kFlushSeconds);
}

void Detector::Member::wait_for_events(double until) {
  std::array<pollfd, kCoordinators + 1> waiting{};
  waiting[0] = {.fd = wake_.fd(), .events = POLLIN, .revents = 0};
  for (std::size_t c = 0; c < kCoordinators; ++c) {   // a negative fd is left out
    waiting[c + 1] = {.fd = links_[c].open() ? links_[c].fd() : -1, .events = POLLIN, .revents = 0};
  }
  poll(waiting.data(), waiting.size(), std::max(0, static_cast<int>((until - now()) * 1000)) + 1);
  wake_.clear();
}

void Detector::Member::send_messages() {
  for (Link& link : links_) link.flush();
  std::string failure;
  Report failed_in;
  {
    const std::lock_guard lock(mutex_);
    failure = failure_;
    failed_in = failed_in_;
  }
  if (!failure.empty() && !failure_sent_) {
    failure_sent_ = true;
    for (Link& link : links_) {
      link.send(FrameKind::report, as_body(failed_in));
      link.send(FrameKind::failure, failure);
    }
  }
  if (leaving_.load(std::memory_order_acquire) && !goodbye_sent_) {
    goodbye_sent_ = true;
    for (Link& link : links_) link.send(FrameKind::goodbye);
  }
}

Report Detector::Member::report_now() const {
  const RankActivity& activity = *rank_.activity;
  return {activity.longest_wait(), activity.position(), activity.disk_wait().get()};
}

void Detector::Member::send_report() {
  const Report report = report_now();
  for (Link& link : links_) {
    if (link.flushed()) link.send(FrameKind::report, as_body(report));   // else the coordinator does not listen now
  }
}

void Detector::Member::listen() {
  for (std::size_t c = 0; c < kCoordinators; ++c) {
    if (!links_[c].open()) continue;
    links_[c].receive([&](FrameKind kind, std::string_view body) {
      if (kind == FrameKind::query) send_report();
      if (kind == FrameKind::verdict && !body.empty()) {
        accept({.kind = static_cast<Verdict::Kind>(body[0]), .text = std::string(body.substr(1))});
      }
      if (kind == FrameKind::loss) hear_loss(body);
      if (double period = 0; kind == FrameKind::pace && body.size() == sizeof period) {
        std::memcpy(&period, body.data(), sizeof period);
        period_ = std::min(period_, period);
        next_report_ = 0;
      }
      if (kind == FrameKind::patience) rank_.activity->excuse(rank_.context.clock->now());
      if (kind == FrameKind::farewell) farewell_[c] = true;
    });
  }
}

void Detector::Member::hear_loss(std::string_view body) {
  Loss loss;
  if (body.size() < sizeof loss.head) return;
  std::memcpy(&loss.head, body.data(), sizeof loss.head);
  loss.reason = body.substr(sizeof loss.head);
  losses_.push_back(std::move(loss));
}

/// Losses that this rank has heard of and whose rank may be lost here as well: ranks agree on that at a time of their own.
void Detector::Member::note_losses() {
  Membership& membership = *rank_.membership;
  std::erase_if(losses_, [&](const Loss& loss) {
    const int rank = loss.head.rank;
    const auto known = [&] { return membership.times_lost(rank) > loss.head.earlier; };
    if (!known()) membership.lose(rank, loss.reason);
    if (rank == this->rank()) {
      const double silent = loss.head.silent;
      constexpr auto kSilent = "declared lost after {:.1f} s without a sign of life: its gradients are refused";
      be_excluded(silent > 0 ? fmt::format(kSilent, silent)
                             : "declared lost, its gradients are refused: " + loss.reason);
      return true;
    }
    return known() || membership.lost(rank);
  });
  for (std::size_t c = 0; c < kCoordinators; ++c) {   // what a lost coordinator says when it wakes up is of no interest
    if (links_[c].open() && lost(c) && this->rank() != static_cast<int>(c)) links_[c].close();
  }
}

/// When all have left: a coordinator that has ended since then needs no longer say it, nor one that may be lost just now.
void Detector::Member::look_for_farewells() {
  if (std::ranges::none_of(farewell_, std::identity())) return;
  if (farewell_at_ == 0) farewell_at_ = now();
  const bool late = now() > farewell_at_ + std::max(kLateFarewell, rank_.membership->heartbeat_timeout());
  for (std::size_t c = 0; c < kCoordinators; ++c) {
    const bool may_be_missing = !links_[c].open() || (late && rank_.membership->may_lose(static_cast<int>(c)));
    if (!farewell_[c] && !may_be_missing) return;
  }
  free_to_go_.store(true, std::memory_order_release);
}

/// Both coordinators have gone without a word, so nobody is left who could speak for all.
void Detector::Member::judge_alone() {
  const bool alone = std::ranges::none_of(links_, [](const Link& link) { return link.open(); });
  if (!alone || farewell_at_ > 0 || acknowledged_.load(std::memory_order_acquire)) return;
  if (verdict().kind != Verdict::Kind::none) return;
  if (alone_since_ == 0) alone_since_ = now();
  if (now() - alone_since_ < kSettle) return;
  const std::string first = fmt::format("rank 0 on {}", hosts_[0]);
  if (rank_.membership->may_lose(rank())) {
    return be_excluded(fmt::format("no connection any more to {}, which has ended, or goes on without this rank", first));
  }
  const std::string who = lost(1) ? first : fmt::format("{} and rank 1 on {}", first, hosts_[1]);
  const Verdict mine{Verdict::Kind::lost, who + " ended before the job was done"};
  rank_.context.log.error(mine.text);
  accept(mine);
}

void Detector::Member::accept(const Verdict& verdict) {
  {
    const std::lock_guard lock(mutex_);
    if (verdict_.kind != Verdict::Kind::none) return;
    verdict_ = verdict;
  }
  if (coordinator_ != nullptr) coordinator_->stand_down();
  verdict_at_ = now();
  rank_.cancel->set(verdict.text);
}

void Detector::Member::resort_to_last() {
  if (resorted_ || verdict_at_ == 0 || acknowledged_.load(std::memory_order_acquire)) return;
  if (now() < verdict_at_ + kGrace) return;
  resorted_ = true;
  last_resort_(verdict());
}

void Detector::Member::close() {
  leaving_.store(true, std::memory_order_release);
  wake_.signal();
  channel_->wait_for_the_end([this] { return free_to_go_.load(std::memory_order_acquire); });
}

Detector::Detector(WatchedRank rank, const DetectorOptions& options, std::function<void(const Verdict&)> last_resort) {
  if (rank.machines.size() == 1 || options.timeout <= 0) return;
  member_ = std::make_unique<Member>(std::move(rank), options, std::move(last_resort));
  if (!member_->connected()) member_.reset();
}

Detector::Detector(std::unique_ptr<Member> member) : member_(std::move(member)) {}

std::unique_ptr<Detector> Detector::of_replacement(WatchedRank rank, const DetectorOptions& options,
                                                   std::function<void(const Verdict&)> last_resort) {
  const std::string door = rank.membership->door();
  std::unique_ptr<Member> member;
  if (!door.empty()) member = std::make_unique<Member>(std::move(rank), options, std::move(last_resort), door);
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
  if (member_ != nullptr) member_->acknowledge();
}
Verdict Detector::verdict() const { return member_ != nullptr ? member_->verdict() : Verdict{}; }
bool Detector::active() const noexcept { return member_ != nullptr; }

}  // namespace cohort
