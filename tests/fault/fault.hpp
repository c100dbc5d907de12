#pragma once

#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cohort/base/clock.hpp"
#include "cohort/base/options.hpp"

namespace cohort::testing {

/// One line at once, so that lines of several processes stay whole.
inline void print_line(const std::string& text) {
  const std::string line = text + "\n";
  if (write(STDOUT_FILENO, line.data(), line.size()) < 0) std::abort();
}

/// What one rank does wrong, and when.
struct Fault {
  std::string kind = "none";
  int rank = 0;
  std::int64_t step = 0;
  int bucket = 0;

  explicit Fault(Section& section) {
    section.bind("mishap", kind, "what goes wrong",
                 one_of({"none", "throw", "exit", "stop", "kill", "spin", "leave", "count", "dtype", "order", "step", "operation"}));
    section.bind("rank", rank, "where");
    section.bind("step", step, "when");
    section.bind("bucket", bucket, "before which bucket");
  }

  [[nodiscard]] bool is(const std::string& what, int my_rank) const { return kind == what && rank == my_rank; }
  [[nodiscard]] bool due(int my_rank, std::int64_t my_step, int my_bucket) const {
    return rank == my_rank && step == my_step && bucket == my_bucket;
  }
  /// Does it, if it is something that a process does to itself.
  void happen() const {
    if (kind == "throw") throw std::runtime_error("this rank has had enough");
    if (kind == "exit") std::exit(0);
    if (kind == "stop") raise(SIGSTOP);
    if (kind == "kill") raise(SIGKILL);
    while (kind == "spin") sleep(1);   // stuck where no wait of ours sees a verdict
  }
};

}  // namespace cohort::testing
