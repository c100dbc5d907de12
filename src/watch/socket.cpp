#include "watch/socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cohort/base/clock.hpp"
#include "cohort/base/error.hpp"
#include "watch/interfaces.hpp"

namespace cohort {
namespace {

struct FrameHead {
  FrameKind kind;
  std::uint32_t bytes;
};

sockaddr_in address_of(in_addr_t host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = host;
  return address;
}

void send_at_once(int fd) noexcept {   // heartbeats are short: never wait for more to send
  const int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

WakeUp::WakeUp() : event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  check(event_.open(), Code::failed_precondition, "no further file or connection can be opened: see ulimit -n");
}

void WakeUp::signal() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(event_.get(), &one, sizeof one);
}

void WakeUp::clear() noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = read(event_.get(), &count, sizeof count);
}

Listener::Listener(const std::string& at) : socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = address_of(0, 0);
  socklen_t length = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  const bool ok = inet_pton(AF_INET, at.c_str(), &address.sin_addr) == 1 && socket.open() && bind(socket.get(), any, length) == 0 &&
                  listen(socket.get(), SOMAXCONN) == 0 && getsockname(socket.get(), any, &length) == 0;
  if (!ok) fail(Code::failed_precondition, "cannot listen for other ranks at " + at + ": " + std::strerror(errno));
  port = ntohs(address.sin_port);
  if (at != kEverywhere) {
    addresses.push_back(at);
    return;
  }
  for (const Interface& each : interfaces_of_this_machine()) addresses.push_back(each.address);
  addresses.emplace_back(kLoopback);
}

Descriptor Listener::accept() const noexcept {
  Descriptor connection(accept4(socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (connection.open()) send_at_once(connection.get());
  return connection;
}

Descriptor connect_to(const std::string& host, std::uint16_t port, double seconds) {
  sockaddr_in address = address_of(0, port);
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return {};
  Descriptor connection(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!connection.open()) return {};
  send_at_once(connection.get());
  if (connect(connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return connection;
  if (errno != EINPROGRESS) return {};
  pollfd waiting{.fd = connection.get(), .events = POLLOUT, .revents = 0};
  int error = 0;
  socklen_t length = sizeof error;
  const bool ok = poll(&waiting, 1, static_cast<int>(seconds * 1000)) == 1 &&
                  getsockopt(connection.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
  return ok ? std::move(connection) : Descriptor();
}

void Link::send(FrameKind kind, std::string_view body) {
  if (!open()) return;
  body = body.substr(0, kLongest);
  const FrameHead head{kind, static_cast<std::uint32_t>(body.size())};
  out_.append(reinterpret_cast<const char*>(&head), sizeof head);
  out_.append(body);
  flush();
}

void Link::flush() noexcept {
  while (open() && !out_.empty()) {
    const ssize_t sent = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      out_.erase(0, static_cast<std::size_t>(sent));
      continue;
    }
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) out_.clear();   // gone; what it sent before can still be read
    return;
  }
}

void Link::receive(const Handler& handler) {
  std::array<char, 4096> buffer;
  while (open()) {
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got > 0) {
      in_.append(buffer.data(), static_cast<std::size_t>(got));
      hand_over(handler);
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    close();
  }
}

bool Link::unacknowledged() const noexcept {
  int bytes = 0;
  return open() && (!out_.empty() || (ioctl(socket_.get(), SIOCOUTQ, &bytes) == 0 && bytes > 0));
}

void Link::finish_sending() noexcept {
  if (open()) shutdown(socket_.get(), SHUT_WR);
}

void Lobby::take(const Listener& listener, double now) {
  for (Descriptor socket = listener.accept(); socket.open(); socket = listener.accept()) {
    if (guests_.size() >= most_) guests_.pop_front();
    guests_.push_back({Link(std::move(socket)), now});
  }
}

void Lobby::hear(double now, const std::function<bool(FrameKind, std::string_view)>& knows, const std::function<void(Link&&)>& admit) {
  for (Guest& guest : guests_) {
    bool ours = false;
    guest.link.receive([&](FrameKind kind, std::string_view body) {
      ours = knows(kind, body);
      if (!ours) guest.link.close();
    });
    if (ours && guest.link.open()) admit(std::exchange(guest.link, Link()));
    if (now - guest.since > kPatience) guest.link.close();
  }
  std::erase_if(guests_, [](const Guest& guest) { return !guest.link.open(); });
}

std::vector<int> Lobby::descriptors() const {
  std::vector<int> all;
  for (const Guest& guest : guests_) all.push_back(guest.link.fd());
  return all;
}

void end_gently(std::span<Link> links, double seconds) {
  Clock& clock = Clock::steady();
  const double end = clock.now() + seconds;
  const auto until = [&](auto&& done) {
    while (!std::ranges::all_of(links, done) && clock.now() < end) clock.sleep(0.001);
  };
  until([](Link& link) {
    link.flush();
    return !link.open() || link.flushed();
  });
  for (Link& link : links) link.finish_sending();
  until([](Link& link) {   // the other side closes when it has read everything
    link.receive([](FrameKind, std::string_view) {});
    return !link.open();
  });
}

void Link::hand_over(const Handler& handler) {
  std::size_t begin = 0;
  FrameHead head{};
  while (in_.size() - begin >= sizeof head) {
    std::memcpy(&head, in_.data() + begin, sizeof head);
    if (head.bytes > kLongest) return close();   // not one of ours
    if (in_.size() - begin < sizeof head + head.bytes) break;
    handler(head.kind, std::string_view(in_).substr(begin + sizeof head, head.bytes));
    begin += sizeof head + head.bytes;
    if (!open()) return;
  }
  in_.erase(0, begin);
}

}  // namespace cohort
