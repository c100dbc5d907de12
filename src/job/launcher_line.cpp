#include "job/launcher_line.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace cohort {
namespace {

constexpr int kLargestDescriptor = 1023;   // MPI_Init has opened it early

/// Where the PMIx server listens, from "pmix-server.20356;tcp4://127.0.0.1:46743".
std::optional<sockaddr_in> address_of(std::string_view uri) {
  constexpr std::string_view kKind = "tcp4://";
  const auto kind = uri.find(kKind), colon = uri.rfind(':');
  if (kind == std::string_view::npos || colon < kind + kKind.size()) return {};
  const std::string host(uri.substr(kind + kKind.size(), colon - kind - kKind.size()));
  const std::string_view number = uri.substr(colon + 1);
  std::uint16_t port = 0;
  sockaddr_in address{};
  if (std::from_chars(number.begin(), number.end(), port).ec != std::errc{}) return {};
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return {};
  address.sin_port = htons(port);
  return address;
}

/// Slurm's PMIx server, if srun has started this process.
std::optional<sockaddr_in> slurm_server() {
  if (!started_by_srun()) return {};
  for (const char* name : {"PMIX_SERVER_URI41", "PMIX_SERVER_URI4", "PMIX_SERVER_URI3", "PMIX_SERVER_URI2"}) {
    const char* uri = std::getenv(name);
    if (uri == nullptr) continue;
    if (const std::optional<sockaddr_in> address = address_of(uri)) return address;
  }
  return {};
}

/// The descriptor that is connected to it; -1 if there is none.
int connection_to(const sockaddr_in& server) {
  for (int descriptor = STDERR_FILENO + 1; descriptor <= kLargestDescriptor; ++descriptor) {
    sockaddr_in peer{};
    socklen_t length = sizeof peer;
    if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &length) != 0 || peer.sin_family != AF_INET) continue;
    if (peer.sin_port == server.sin_port && peer.sin_addr.s_addr == server.sin_addr.s_addr) return descriptor;
  }
  return -1;
}

/// The child of a process with threads: system calls alone. All that it does not hold closes when its owner closes it.
[[noreturn]] void hold(int descriptor) {
  prctl(PR_SET_NAME, "launcher-line");
  if (descriptor > 0) close_range(0, static_cast<unsigned>(descriptor) - 1, 0);
  close_range(static_cast<unsigned>(descriptor) + 1, ~0U, 0);
  pollfd server{.fd = descriptor, .events = POLLRDHUP, .revents = 0};   // does not read: what comes is its owner's
  while (poll(&server, 1, -1) <= 0) {
  }
  _exit(0);
}

}  // namespace

bool started_by_srun() {
  const char* space = std::getenv("PMIX_NAMESPACE");
  return space != nullptr && std::string_view(space).starts_with("slurm.");
}

LauncherLine::LauncherLine() {
  const std::optional<sockaddr_in> server = slurm_server();
  const int descriptor = server ? connection_to(*server) : -1;
  if (descriptor < 0) return;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);   // what asks the ranks to end is not meant for the child
  holder_ = fork();
  if (holder_ == 0) hold(descriptor);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LauncherLine::~LauncherLine() {
  if (holder_ <= 0) return;
  kill(holder_, SIGKILL);
  waitpid(holder_, nullptr, 0);
}

}  // namespace cohort
