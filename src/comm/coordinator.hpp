#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "cohort/base/log.hpp"
#include "comm/socket.hpp"
#include "comm/verdict.hpp"

namespace cohort {

/// What a rank says when it connects. The token tells our ranks from strangers.
struct Hello {
  std::uint64_t token = 0;
  std::int32_t rank = -1;
  std::int32_t unused = 0;
};

struct CoordinatorOptions {
  std::vector<std::string> hosts;   // of all ranks
  std::uint64_t token = 0;
  double timeout = 60;
  double period = 1;                // of heartbeats
  int only = -1;                    // the only rank it may judge; -1: all
  bool local = true;                // all ranks are on this machine
};

/// Collects the heartbeats of all ranks and gives one verdict at most: logs it, then sends it to all. When all have said
/// goodbye it says farewell. One thread.
class Coordinator {
 public:
  Coordinator(CoordinatorOptions options, Log log);
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;
  ~Coordinator();

  /// Port and addresses, separated by blanks.
  [[nodiscard]] std::string address() const;
  /// Another coordinator has spoken: this one stays silent.
  void stand_down() noexcept { stood_down_.store(true, std::memory_order_release); }

 private:
  void run(const std::stop_token& stop);
  void wait_for_events(double seconds);
  void take_connections();
  void admit(Link& link, const Hello& hello);
  void hear(int rank);
  void on_frame(int rank, FrameKind kind, std::string_view body, double now);
  void decide(double now);
  void send_all(FrameKind kind, std::string_view body = {});
  [[nodiscard]] bool all_left() const noexcept;

  CoordinatorOptions options_;
  Log log_;
  Listener listener_;
  WakeUp wake_;
  std::vector<RankView> ranks_;
  std::vector<Link> links_;          // by rank
  std::vector<Link> strangers_;      // have not said hello
  bool decided_ = false;
  std::atomic<bool> stood_down_{false};
  std::jthread thread_;
};

}  // namespace cohort
