#include "watch/rank_links.hpp"

#include <poll.h>

#include <utility>

namespace cohort {

RankLinks::RankLinks(const std::string& listen, std::size_t ranks) : listener_(listen), links_(ranks), lobby_(ranks) {}

std::string RankLinks::address() const {
  std::string text = std::to_string(listener_.port);
  for (const std::string& address : listener_.addresses) text += " " + address;
  return text;
}

void RankLinks::wait(double seconds) {
  std::vector<pollfd> waiting{{.fd = wake_.fd(), .events = POLLIN, .revents = 0},
                              {.fd = listener_.socket.get(), .events = POLLIN, .revents = 0}};
  for (const int stranger : lobby_.descriptors()) waiting.push_back({.fd = stranger, .events = POLLIN, .revents = 0});
  for (const Link& link : links_) {
    if (!link.open()) continue;
    const auto events = static_cast<short>(link.flushed() ? POLLIN : POLLIN | POLLOUT);
    waiting.push_back({.fd = link.fd(), .events = events, .revents = 0});
  }
  poll(waiting.data(), waiting.size(), static_cast<int>(seconds * 1000) + 1);
  wake_.clear();
}

void RankLinks::take(std::uint64_t token, const std::function<void(Link&&, const Hello&)>& admit) {
  lobby_.take(listener_, steady_seconds());
  Hello hello;
  const auto knows = [&](FrameKind kind, std::string_view body) {
    return kind == FrameKind::hello && read_body(body, hello) && hello.token == token && hello.rank >= 0 &&
           hello.rank < static_cast<int>(links_.size());
  };
  lobby_.hear(steady_seconds(), knows, [&](Link&& link) { admit(std::move(link), hello); });
}

void RankLinks::make_room(std::size_t rank) {
  former_.push_back(std::move(links_[rank]));
  links_[rank] = {};
}

void RankLinks::end() {
  for (Link& link : former_) link.flush();
  end_gently(links_, kFlushSeconds);
}

}  // namespace cohort
