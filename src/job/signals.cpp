#include "job/signals.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace cohort {
namespace {

// Signals belong to the process, and so does this flag: a handler can reach nothing else.
std::atomic<bool> stop_requested{false};
std::atomic<int> stop_number{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free, "a handler may only touch lock-free atomics");

// A handler and not SIG_IGN, which programs that this one starts would inherit.
extern "C" void go_on(int) {}

extern "C" void request_stop(int number) {
  int none = 0;
  stop_number.compare_exchange_strong(none, number, std::memory_order_relaxed);   // the first
  stop_requested.store(true, std::memory_order_release);
}

void survive(int signal) {
  struct sigaction action {};
  action.sa_handler = go_on;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(signal, &action, nullptr);
}

}  // namespace

const std::atomic<bool>& catch_stop_signals() {
  sigset_t stops;
  sigemptyset(&stops);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaddset(&stops, number);
  struct sigaction action {};
  action.sa_handler = request_stop;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  pthread_sigmask(SIG_BLOCK, &stops, nullptr);          // here and in all threads to come
  std::thread([stops] {
    pthread_sigmask(SIG_UNBLOCK, &stops, nullptr);
    for (;;) pause();
  }).detach();
  return stop_requested;
}

int stop_signal() noexcept { return stop_number.load(std::memory_order_relaxed); }

std::string name_of_signal(int number) {
  const char* const name = sigabbrev_np(number);
  return name == nullptr ? "a signal" : std::string("SIG") + name;
}

void survive_broken_connections() {
  survive(SIGPIPE);
  setenv("OMPI_MCA_opal_event_include", "epoll", 0);
}

void survive_full_files() { survive(SIGXFSZ); }

}  // namespace cohort
