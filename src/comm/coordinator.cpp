#include "comm/coordinator.hpp"

#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "cohort/base/clock.hpp"

namespace cohort {
namespace {

constexpr double kSettlePeriod = 0.05;     // between questions while a verdict is due
constexpr double kFlushSeconds = 0.5;      // for what is still to be sent at the end

double now() { return Clock::steady().now(); }

template <class T>
bool read_body(std::string_view body, T& value) {
  if (body.size() != sizeof value) return false;
  std::memcpy(&value, body.data(), sizeof value);
  return true;
}

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, Log log)
    : options_(std::move(options)), log_(std::move(log)), listener_(options_.local), ranks_(options_.hosts.size()),
      links_(options_.hosts.size()) {
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) ranks_[rank].host = options_.hosts[rank];
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Coordinator::~Coordinator() {
  thread_.request_stop();
  wake_.signal();
}

std::string Coordinator::address() const {
  std::string text = std::to_string(listener_.port);
  for (const std::string& address : listener_.addresses) text += " " + address;
  return text;
}

void Coordinator::run(const std::stop_token& stop) {
  double last_turn = now();
  while (!stop.stop_requested()) {
    const double pause = settling(ranks_, options_.only) ? kSettlePeriod : std::min(options_.period, 0.1);
    wait_for_events(pause);
    const double time = now(), gap = time - last_turn - pause;
    if (gap > std::max(1.0, options_.timeout / 4)) {   // suspended, or starved: everybody's news may be late
      for (RankView& rank : ranks_) rank.forgive(gap);
    }
    last_turn = time;
    take_connections();
    for (int rank = 0; rank < static_cast<int>(links_.size()); ++rank) hear(rank);
    if (!decided_ && !stood_down_.load(std::memory_order_acquire)) decide(time);
  }
  end_gently(links_, kFlushSeconds);
}

void Coordinator::wait_for_events(double seconds) {
  std::vector<pollfd> waiting{{.fd = wake_.fd(), .events = POLLIN, .revents = 0},
                              {.fd = listener_.socket.get(), .events = POLLIN, .revents = 0}};
  for (const std::vector<Link>* links : {&links_, &strangers_}) {
    for (const Link& link : *links) {
      if (!link.open()) continue;
      const auto events = static_cast<short>(link.flushed() ? POLLIN : POLLIN | POLLOUT);
      waiting.push_back({.fd = link.fd(), .events = events, .revents = 0});
    }
  }
  poll(waiting.data(), waiting.size(), static_cast<int>(seconds * 1000) + 1);
  wake_.clear();
}

void Coordinator::take_connections() {
  for (Descriptor socket = listener_.accept(); socket.open(); socket = listener_.accept()) {
    strangers_.emplace_back(std::move(socket));
  }
  for (Link& stranger : strangers_) {
    Hello hello;
    bool ours = false;
    stranger.receive([&](FrameKind kind, std::string_view body) {
      if (kind != FrameKind::hello || !read_body(body, hello) || hello.token != options_.token) return stranger.close();
      ours = hello.rank >= 0 && hello.rank < static_cast<int>(ranks_.size());
    });
    if (ours && stranger.open()) admit(stranger, hello);
  }
  std::erase_if(strangers_, [](const Link& link) { return !link.open(); });
}

void Coordinator::admit(Link& link, const Hello& hello) {
  const auto rank = static_cast<std::size_t>(hello.rank);
  ranks_[rank].connected = true;
  ranks_[rank].heard = now();
  links_[rank] = std::move(link);
  links_[rank].send(FrameKind::welcome, std::string_view(reinterpret_cast<const char*>(&hello), sizeof hello));
}

void Coordinator::hear(int rank) {
  Link& link = links_[static_cast<std::size_t>(rank)];
  if (!link.open()) return;
  link.flush();
  const double time = now();
  link.receive([&](FrameKind kind, std::string_view body) { on_frame(rank, kind, body, time); });
  RankView& view = ranks_[static_cast<std::size_t>(rank)];
  if (link.open() || all_left()) return;
  view.ended = true;
  view.ended_at = time;
}

void Coordinator::on_frame(int rank, FrameKind kind, std::string_view body, double time) {
  RankView& view = ranks_[static_cast<std::size_t>(rank)];
  view.heard = time;
  switch (kind) {
    case FrameKind::report:
      if (Report report; read_body(body, report)) view.hear(report, time);
      return;
    case FrameKind::failure:
      if (view.failure.empty()) view.failed_at = time;
      view.failure = body.empty() ? "an error without a text" : std::string(body);
      return;
    case FrameKind::goodbye:
      view.left = true;
      view.left_at = time;
      if (all_left()) send_all(FrameKind::farewell);
      return;
    default: return;
  }
}

void Coordinator::decide(double time) {
  if (all_left()) return;
  if (settling(ranks_, options_.only)) send_all(FrameKind::query);
  const std::optional<Verdict> verdict = judge(ranks_, time, options_.timeout, options_.only);
  if (!verdict) return;
  decided_ = true;
  if (verdict->kind == Verdict::Kind::lost) log_.error(verdict->text);   // before anybody can act on it
  send_all(FrameKind::verdict, std::string(1, static_cast<char>(verdict->kind)) + verdict->text);
}

void Coordinator::send_all(FrameKind kind, std::string_view body) {
  for (Link& link : links_) link.send(kind, body);
}

bool Coordinator::all_left() const noexcept {
  return std::ranges::all_of(ranks_, [](const RankView& rank) { return rank.left; });
}

}  // namespace cohort
