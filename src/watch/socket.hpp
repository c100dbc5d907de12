#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "cohort/base/clock.hpp"

namespace cohort {

/// The time by which the watchdog counts. Ranks' clocks have nothing to do with each other.
[[nodiscard]] inline double steady_seconds() { return Clock::steady().now(); }

/// Owns a file descriptor; children of this process do not inherit it.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool open() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Ends a thread's poll() from another thread.
class WakeUp {
 public:
  WakeUp();
  [[nodiscard]] int fd() const noexcept { return event_.get(); }
  void signal() noexcept;
  void clear() noexcept;

 private:
  Descriptor event_;
};

inline constexpr const char* kLoopback = "127.0.0.1";
inline constexpr const char* kEverywhere = "0.0.0.0";

/// Where other ranks can connect to: TCP over IPv4, at a port that the system chose.
struct Listener {
  /// `at`: the one address of this machine that others reach it by, or kEverywhere. Error unavailable.
  explicit Listener(const std::string& at);
  /// The next connection; closed if there is none.
  [[nodiscard]] Descriptor accept() const noexcept;

  Descriptor socket;
  std::uint16_t port = 0;
  std::vector<std::string> addresses;   ///< "10.0.0.7"
};

/// A connection, or a closed descriptor when nobody answers there within the time.
[[nodiscard]] Descriptor connect_to(const std::string& address, std::uint16_t port, double seconds);

enum class FrameKind : std::uint32_t { hello, welcome, report, failure, goodbye, query, verdict, farewell, pace, loss, patience };

/// A value as it lies in memory, to be a frame's body.
template <class T>
[[nodiscard]] std::string_view as_body(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// The same back; false if the body has another size.
template <class T>
[[nodiscard]] bool read_body(std::string_view body, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (body.size() != sizeof value) return false;
  std::memcpy(&value, body.data(), sizeof value);
  return true;
}

/// Short messages over one connection. Never blocks: what the other side does not take yet is kept.
class Link {
 public:
  using Handler = std::function<void(FrameKind kind, std::string_view body)>;
  static constexpr std::size_t kLongest = 64 << 10;   ///< bytes of a body

  Link() = default;
  explicit Link(Descriptor socket) noexcept : socket_(std::move(socket)) {}
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  [[nodiscard]] bool open() const noexcept { return socket_.open(); }
  [[nodiscard]] bool flushed() const noexcept { return out_.empty(); }

  void send(FrameKind kind, std::string_view body = {});
  void flush() noexcept;
  /// Hands over what has come. Closes the link when the other side has: then everything that came before was handed over.
  void receive(const Handler& handler);
  void close() noexcept { socket_ = Descriptor(); }
  /// True while the other machine has not said that it got everything: its processes do not matter for that.
  [[nodiscard]] bool unacknowledged() const noexcept;
  /// Says that nothing more comes from here; what the other side sends can still be read.
  void finish_sending() noexcept;

 private:
  void hand_over(const Handler& handler);

  Descriptor socket_;
  std::string in_, out_;
};

/// Connections that have not said yet whose they are. Anybody may connect and say nothing, so each has kPatience seconds, and
/// there are only so many of them: where another one comes, the oldest goes. What is ours says so at once.
class Lobby {
 public:
  static constexpr double kPatience = 10;
  static constexpr std::size_t kSpare = 64;

  /// `expected`: so many of ours may come at the same moment.
  explicit Lobby(std::size_t expected) : most_(expected + kSpare) {}

  /// Takes all connections that wait at the listener. `now` in seconds, of any clock.
  void take(const Listener& listener, double now);
  /// `knows` is shown each message, and says whether the sender is one of ours; then `admit` gets the link. Who says anything
  /// else, closes or has been silent for too long is shown out.
  void hear(double now, const std::function<bool(FrameKind, std::string_view)>& knows, const std::function<void(Link&&)>& admit);
  /// To wait for.
  [[nodiscard]] std::vector<int> descriptors() const;
  [[nodiscard]] std::size_t size() const noexcept { return guests_.size(); }

 private:
  struct Guest {
    Link link;
    double since;
  };
  std::size_t most_;
  std::deque<Guest> guests_;      // the oldest first
};

/// How long the watchdog's threads try at their end to deliver what they have sent.
inline constexpr double kFlushSeconds = 0.5;

/// Ends all links such that what was sent arrives, within about `seconds`. Merely closing a socket with unread data in it
/// resets the connection, and what the system has not delivered by then is lost: a verdict, an error.
void end_gently(std::span<Link> links, double seconds);

}  // namespace cohort
