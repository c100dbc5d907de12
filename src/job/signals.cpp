#include "job/signals.hpp"

#include <csignal>
#include <cstdlib>

namespace cohort {
namespace {

// Signals belong to the process, and so does this flag: a handler can reach nothing else.
std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a handler may only touch lock-free atomics");

// A handler and not SIG_IGN, which programs that this one starts would inherit.
extern "C" void go_on(int) {}

extern "C" void request_stop(int) { stop_requested.store(true, std::memory_order_relaxed); }

void survive(int signal) {
  struct sigaction action {};
  action.sa_handler = go_on;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(signal, &action, nullptr);
}

}  // namespace

const std::atomic<bool>& catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = request_stop;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  return stop_requested;
}

void survive_broken_connections() {
  survive(SIGPIPE);
  setenv("OMPI_MCA_opal_event_include", "epoll", 0);
}

void survive_full_files() { survive(SIGXFSZ); }

}  // namespace cohort
