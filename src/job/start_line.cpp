#include "job/start_line.hpp"

#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <sstream>
#include <string_view>
#include <utility>

#include "cohort/base/clock.hpp"
#include "cohort/job/job.hpp"
#include "job/launcher.hpp"

namespace cohort {
namespace {

constexpr double kConnectSeconds = 2;
constexpr double kForEver = std::numeric_limits<double>::infinity();

double now() { return Clock::steady().now(); }

void print(const std::string& line) {
  const std::string text = line + "\n";   // one write, so that lines of several ranks stay whole
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
}

std::string name_of(const StartNews& news) {
  if (news.rank < 0) return fmt::format("[process {} on {}]", news.process, news.host.data());
  return fmt::format("[rank {} on {}]", news.rank, news.host.data());
}

}  // namespace

StartLine::StartLine() : replacement_(!environment_variable("OMPI_PARENT_PORT").empty()) {
  news_.rank = replacement_ ? -1 : launched_number(environment_variable).value_or(-1);      // it has a world of its own
  news_.ranks = launched_count(environment_variable).value_or(0);
  news_.process = getpid();
  gethostname(news_.host.data(), news_.host.size() - 1);
  std::istringstream words(environment_variable(kStartVariable));
  double seconds = 0;
  if (words >> news_.token >> seconds >> std::ws) {
    first_pause_ = std::min(first_pause_, seconds / 4);
    if (news_.rank >= 0 && news_.ranks > news_.rank) std::getline(words, address_);
  }
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void StartLine::reach(StartStage stage) noexcept {
  stage_.store(stage, std::memory_order_release);
  wake_.signal();
}

void StartLine::leave() {
  thread_.request_stop();
  wake_.signal();
  if (thread_.joinable()) thread_.join();
}

void StartLine::run(const std::stop_token& stop) {
  const double began = now();
  connect();
  double next_news = 0, pause = first_pause_, next_word = began + pause;
  StartStage told = StartStage::begun;
  while (!stop.stop_requested()) {
    const StartStage stage = stage_.load(std::memory_order_acquire);
    if (stage != told || now() >= next_news) send_news();
    told = stage;
    const bool waits = stage != StartStage::watched;
    next_news = waits ? now() + kNewsPeriod : kForEver;
    if (waits && now() >= next_word) {
      speak(now() - began);
      pause *= 2;
      next_word = now() + pause;
    }
    if (waits && replacement_ && now() > began + kMeetSeconds) {
      print(fmt::format("{} error: the ranks that have started this process have not met it for {:.0f} s: it ends", name_of(news_), kMeetSeconds));
      _exit(kExitError);
    }
    pollfd waiting[] = {{.fd = wake_.fd(), .events = POLLIN, .revents = 0}, {.fd = link_.fd(), .events = POLLIN, .revents = 0}};
    const double until = waits ? std::max(0.0, std::min(next_news, next_word) - now()) : -1;
    poll(waiting, 2, waits ? static_cast<int>(until * 1000) + 1 : -1);      // a negative descriptor is left out
    wake_.clear();
    listen();
  }
  send_news();
  link_.send(FrameKind::goodbye);
  for (const double end = now() + kFlushSeconds; link_.open() && !link_.flushed() && now() < end; Clock::steady().sleep(0.001)) link_.flush();
  // The system closes it when the process has really ended: one that is stopped on its way there can still be named.
  static_cast<void>(new Link(std::move(link_)));
}

void StartLine::connect() {
  std::istringstream words(address_);
  std::uint16_t port = 0;
  words >> port;
  for (std::string host; !link_.open() && words >> host;) link_ = Link(connect_to(host, port, kConnectSeconds));
}

void StartLine::send_news() {
  news_.stage = stage_.load(std::memory_order_acquire);
  link_.send(FrameKind::report, {reinterpret_cast<const char*>(&news_), sizeof news_});
}

/// Where this rank is stuck in MPI, nobody else can end it: under srun, for one, the launcher could not.
void StartLine::listen() {
  link_.receive([](FrameKind kind, std::string_view) {
    if (kind == FrameKind::verdict) _exit(kExitError);
  });
}

void StartLine::speak(double waited) const {
  const std::string who = news_.ranks > 0 ? fmt::format("all {} processes that the launcher has started", news_.ranks) : "MPI";
  std::string where = fmt::format("in MPI_Init for {:.0f} s, which returns when {} are there", waited, who);
  if (replacement_) where = fmt::format("in MPI_Init for {:.0f} s, in place of a rank that was lost: it waits for those that have started it", waited);
  else if (stage_.load(std::memory_order_acquire) == StartStage::joined) {
    where = fmt::format("MPI is up, but {:.0f} s after its start this rank still waits for others of {} ranks", waited, news_.ranks);
  }
  print(fmt::format("{} warning: {}; one of them may have died, have been stopped, or be slow{}", name_of(news_), where,
                    address_.empty() && !replacement_ ? " (cohort launch would name it and end the job)" : ""));
}

}  // namespace cohort
