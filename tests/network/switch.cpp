// A switch between network namespaces, in user space: what the kernel's queues do not offer everywhere, delay and loss, and rates.
//
//   network_switch PID PID …      one host per PID: a TAP interface eth0 is made in the network namespace of that process
//
// Prints "ready", then obeys lines on standard input, in the order of the hosts from 1:
//
//   2 rate 100 delay 0.5 loss 0.1      host 2's link: Mbit/s each way (0: no limit), ms from host to host, percent
//   all rate 1000                      what is not named stays
//   3 down    3 up                     cuts the cable, mends it
//
// A link has a queue each way. A frame first waits for the sender's line, then for the receiver's; half of each one's delay is
// spent on it. What would wait behind more than kQueueBytes is dropped, as in a real switch. Ends with its standard input.

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <queue>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t kLongestFrame = 65'600;
constexpr double kQueueBytes = 256 * 1024;
constexpr int kBurst = 64;                    // frames read from one host before the next has its turn

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

double now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

class File {
 public:
  explicit File(int fd = -1) noexcept : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

void enter(const std::string& path) {
  const File space(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (space.get() < 0) fail(path);
  if (setns(space.get(), CLONE_NEWNET) != 0) fail("network namespace " + path);
}

File make_interface() {
  File file(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (file.get() < 0) fail("/dev/net/tun");
  ifreq request{};
  std::strncpy(request.ifr_name, "eth0", IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(file.get(), TUNSETIFF, &request) != 0) fail("a TAP interface");
  return file;
}

/// One direction of a link.
struct Line {
  double free_at = 0;     // when all that is queued has gone

  /// When a frame of so many bytes, which comes at `time`, has gone; negative if the queue is full.
  double pass(double time, double bytes, double seconds_per_byte) {
    const double start = std::max(time, free_at);
    if (start - time > kQueueBytes * seconds_per_byte) return -1;
    return free_at = start + bytes * seconds_per_byte;
  }
};

struct Host {
  explicit Host(File tap) : file(std::move(tap)) {}
  File file;
  double delay = 0, seconds_per_byte = 0, loss = 0;
  bool up = true;
  Line from, to;
};

using Frame = std::shared_ptr<const std::vector<char>>;

/// A frame on its way: at `time` it has left the sender's line, or arrives.
struct Event {
  double time;
  std::uint64_t order;    // of frames with equal times
  std::size_t from, to;
  bool arrives;
  Frame frame;
  bool operator<(const Event& other) const { return time != other.time ? time > other.time : order > other.order; }
};

class Switch {
 public:
  void add(File tap) { hosts_.emplace_back(std::move(tap)); }

  void run() {
    std::vector<pollfd> files;
    for (const Host& host : hosts_) files.push_back({.fd = host.file.get(), .events = POLLIN, .revents = 0});
    files.push_back({.fd = STDIN_FILENO, .events = POLLIN, .revents = 0});
    while (true) {
      timespec left{};
      if (!events_.empty()) {
        const double seconds = std::max(0.0, events_.top().time - now());
        left.tv_sec = static_cast<time_t>(seconds);
        left.tv_nsec = static_cast<long>(1e9 * (seconds - static_cast<double>(left.tv_sec)));
      }
      if (ppoll(files.data(), files.size(), events_.empty() ? nullptr : &left, nullptr) < 0 && errno != EINTR) fail("ppoll");
      deliver();
      for (std::size_t i = 0; i < hosts_.size(); ++i) {
        if ((files[i].revents & POLLIN) != 0) read_frames(i);
      }
      if ((files.back().revents & (POLLIN | POLLHUP)) != 0 && !read_commands()) return;
    }
  }

 private:
  void deliver() {
    const double time = now();
    while (!events_.empty() && events_.top().time <= time) {
      const Event event = events_.top();
      events_.pop();
      Host& host = hosts_[event.to];
      if (!host.up) continue;
      if (!event.arrives) {
        const double gone = host.to.pass(event.time, static_cast<double>(event.frame->size()), host.seconds_per_byte);
        if (gone >= 0) push({gone + host.delay / 2, 0, event.from, event.to, true, event.frame});
      } else if (write(host.file.get(), event.frame->data(), event.frame->size()) < 0 && errno != EAGAIN && errno != EIO) {
        fail("write");    // EIO: the interface is not up
      }
    }
  }

  void read_frames(std::size_t from) {
    Host& host = hosts_[from];
    for (int i = 0; i < kBurst; ++i) {
      const ssize_t n = read(host.file.get(), buffer_.data(), buffer_.size());
      if (n < 14) return;
      if (!host.up) continue;
      const std::uint64_t receiver = address_at(0);
      ports_[address_at(6)] = from;
      const double gone = host.from.pass(now(), static_cast<double>(n), host.seconds_per_byte);
      if (gone < 0) continue;
      const auto frame = std::make_shared<const std::vector<char>>(buffer_.begin(), buffer_.begin() + n);
      const auto port = ports_.find(receiver);
      const bool to_all = (buffer_[0] & 1) != 0 || port == ports_.end();
      for (std::size_t to = 0; to < hosts_.size(); ++to) {
        if (to == from || (!to_all && to != port->second) || lost(host) || lost(hosts_[to])) continue;
        push({gone + host.delay / 2, 0, from, to, false, frame});
      }
    }
  }

  void push(Event event) {
    event.order = ++pushed_;
    events_.push(std::move(event));
  }

  /// Each of two links drops half of what it is asked to, so that hosts with equal links lose that share.
  [[nodiscard]] bool lost(const Host& host) {
    return host.loss > 0 && std::uniform_real_distribution<double>(0, 100)(random_) < host.loss / 2;
  }

  [[nodiscard]] std::uint64_t address_at(std::size_t at) const {
    std::uint64_t address = 0;
    std::memcpy(&address, buffer_.data() + at, 6);
    return address;
  }

  bool read_commands() {
    char text[4096];
    const ssize_t n = read(STDIN_FILENO, text, sizeof text);
    if (n <= 0) return n < 0 && errno == EINTR;
    commands_.append(text, static_cast<std::size_t>(n));
    for (std::size_t end = 0; (end = commands_.find('\n')) != std::string::npos; commands_.erase(0, end + 1)) {
      obey(commands_.substr(0, end));
    }
    return true;
  }

  void obey(const std::string& line) {
    std::istringstream words(line);
    std::string who;
    words >> who;
    const std::vector<std::string> rest{std::istream_iterator<std::string>(words), {}};
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      if (who != "all" && who != std::to_string(i + 1)) continue;
      for (std::size_t k = 0; k < rest.size(); ++k) {
        if (rest[k] == "up" || rest[k] == "down") hosts_[i].up = rest[k] == "up";
        else if (k + 1 < rest.size()) set(hosts_[i], rest[k], std::stod(rest[k + 1])), ++k;
        else throw std::invalid_argument("network_switch: cannot obey: " + line);
      }
    }
  }

  static void set(Host& host, const std::string& key, double value) {
    if (key == "rate") host.seconds_per_byte = value > 0 ? 8 / (value * 1e6) : 0;
    else if (key == "delay") host.delay = value * 1e-3;
    else if (key == "loss") host.loss = value;
    else throw std::invalid_argument("network_switch: links have rate, delay and loss, not " + key);
  }

  std::vector<Host> hosts_;
  std::vector<char> buffer_ = std::vector<char>(kLongestFrame);
  std::priority_queue<Event> events_;
  std::uint64_t pushed_ = 0;
  std::unordered_map<std::uint64_t, std::size_t> ports_;   // by hardware address
  std::mt19937_64 random_{1};
  std::string commands_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    Switch hub;
    for (int i = 1; i < argc; ++i) {
      enter(std::string("/proc/") + argv[i] + "/ns/net");
      hub.add(make_interface());
    }
    std::puts("ready");
    std::fflush(stdout);
    hub.run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "network_switch: %s\n", error.what());
    return 1;
  }
}
