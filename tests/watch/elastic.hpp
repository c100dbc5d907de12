#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "cohort/comm/watched.hpp"
#include "cohort/watch/detector.hpp"
#include "support/patience.hpp"

namespace cohort::testing {

inline void sleep_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(patient(seconds))); }

[[nodiscard]] inline bool comes_true(const std::function<bool()>& condition, double seconds = kHung) {
  for (const double end = Clock::steady().now() + seconds; Clock::steady().now() < end; sleep_for(0.002)) {
    if (condition()) return true;
  }
  return condition();
}

/// Runs `body` on every rank with a detector of its own; all but rank 0 may be lost. Times are stretched as sleep_for is.
class Elastic {
 public:
  using Body = std::function<void(Communicator&, std::optional<Detector>&)>;

  Elastic(int ranks, double timeout, double heartbeat_timeout, const Body& body) {
    run_as_threads(ranks, [&](Communicator& plain) {
      Context context = plain.context();
      context.log = Log("", LogLevel::warning, [this](LogLevel, std::string_view line) {
        const std::lock_guard lock(mutex_);
        lines.emplace_back(line);
      });
      std::vector<int> all;
      for (int rank = 0; rank < ranks; ++rank) all.push_back(rank);
      Communicator world(plain.transport().subgroup(all, 29000), context, NodeMap(std::vector<int>(all.size(), 0)));
      world.set_timeout(kHung);
      DetectorOptions options;
      options.timeout = patient(timeout);
      std::optional<Detector> detector;
      detector.emplace(watched(world), options, [](const Verdict&) {});
      if (heartbeat_timeout > 0) allow(world, heartbeat_timeout);
      barrier(plain);
      body(world, detector);
      barrier(plain);
    });
  }

  static void allow(Communicator& world, double heartbeat_timeout) {
    std::vector<int> workers;
    for (int rank = 1; rank < world.size(); ++rank) workers.push_back(rank);
    world.membership()->allow_losses(workers, patient(heartbeat_timeout));
  }

  std::vector<std::string> lines;

 private:
  std::mutex mutex_;
};

/// What a wait here throws.
inline std::string cancelled_text(Communicator& world) {
  try {
    world.wait(WaitStatus{.operation = "a token"}, [] { return false; });
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::cancelled) << error.what();
    return error.what();
  }
  return "no error";
}

}  // namespace cohort::testing
