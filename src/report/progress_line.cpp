#include "report/progress_line.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace cohort {
namespace {

constexpr double kLivePeriod = 0.2, kPlainPeriod = 5;   // seconds between two lines

/// Under mpirun a rank's standard output is a pseudo-terminal, whatever mpirun's own is: what counts is the parent's.
bool watched_on_a_terminal() {
  if (isatty(STDOUT_FILENO) != 1) return false;
  const int parent = open(fmt::format("/proc/{}/fd/1", getppid()).c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (parent < 0) return false;
  const bool terminal = isatty(parent) == 1;
  close(parent);
  return terminal;
}

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace

ProgressLine::ProgressLine(const Context& context, bool print, std::int64_t epochs)
    : context_(context), print_(print), terminal_(print_ && watched_on_a_terminal()), epochs_(epochs),
      started_(context.clock->now()), last_print_(started_), window_start_(started_) {}

std::string ProgressLine::line(std::int64_t step, std::int64_t epoch, double loss) const {
  const double elapsed = context_.clock->now() - started_;
  const std::int64_t done = step - first_step_ + 1;
  const double left = done > 0 ? elapsed / static_cast<double>(done) * static_cast<double>(total_ - step) : 0;
  return fmt::format("epoch {} of {}  step {} of {}  loss {:.4f}  {:.0f} samples/s{}  {} left", epoch + 1, epochs_, step, total_, loss,
                     rate_, team_, duration(left));
}

void ProgressLine::step(std::int64_t step, std::int64_t epoch, std::int64_t samples, double loss) {
  if (first_step_ < 0) first_step_ = step;
  window_samples_ += samples;
  const double now = context_.clock->now();
  if (now - last_print_ < (terminal_ ? kLivePeriod : kPlainPeriod)) return;
  rate_ = static_cast<double>(window_samples_) / (now - window_start_);
  if (now - window_start_ > kPlainPeriod) {
    window_start_ = now;
    window_samples_ = 0;
  }
  last_print_ = now;
  if (!print_) return;
  if (terminal_) {
    fmt::print("\r\033[K{}", line(step, epoch, loss));
    line_open_ = true;
  } else {
    fmt::print("{}\n", line(step, epoch, loss));
  }
  std::fflush(stdout);
}

void ProgressLine::note(const std::string& text) {
  if (!print_) return;
  fmt::print("{}{}\n", line_open_ ? "\r\033[K" : "", text);
  line_open_ = false;
  std::fflush(stdout);
}

void ProgressLine::finish() {
  if (line_open_) fmt::print("\n");
  line_open_ = false;
  std::fflush(stdout);
}

}  // namespace cohort
