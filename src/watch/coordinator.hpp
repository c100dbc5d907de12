#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cohort/base/log.hpp"
#include "cohort/watch/membership.hpp"
#include "watch/rank_links.hpp"
#include "watch/socket.hpp"
#include "watch/verdict.hpp"

namespace cohort {

inline constexpr double kBeats = 5;   ///< heartbeats in the time after which a silent rank is lost

/// Heads a loss frame; the reason follows.
struct LossHead {
  std::int32_t rank = -1;
  std::int32_t earlier = 0;         // losses of this rank, which has been replaced since
  double silent = 0;                // seconds without a sign of life; 0: lost for another reason
};

struct CoordinatorOptions {
  std::vector<std::string> hosts;   // of all ranks
  std::uint64_t token = 0;
  double timeout = 60;
  double period = 1;                // of heartbeats
  int only = -1;                    // the only rank it may judge; -1: all
  std::string listen = kLoopback;   // the address that all ranks reach it by
  int rank = 0;                     // where it runs
  std::shared_ptr<Membership> membership = std::make_shared<Membership>();   // of that rank
};

/// Collects the heartbeats of all ranks and gives one verdict at most: logs it, then sends it to all. When all have said
/// goodbye it says farewell. One thread.
///
/// Of ranks that may be lost it says, instead of a verdict, that they are: it logs that, and tells all ranks. Only the one
/// that may judge all ranks does; the other learns of losses from its rank's membership. A lost rank counts as one that has
/// left, and nothing that it says is heard any more. A process that takes its place, as the membership says, connects anew.
class Coordinator {
 public:
  Coordinator(CoordinatorOptions options, Log log);
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;
  ~Coordinator();

  /// Port and addresses, separated by blanks.
  [[nodiscard]] std::string address() const { return links_.address(); }
  /// Another coordinator has spoken: this one stays silent.
  void stand_down() noexcept { stood_down_.store(true, std::memory_order_release); }

 private:
  void run(const std::stop_token& stop);
  void admit(Link link, const Hello& hello);
  void hear(int rank);
  void on_frame(int rank, FrameKind kind, std::string_view body, double now);
  void be_patient(double now);
  void decide(double now);
  void follow_membership(double now);
  void follow_changes(double now);
  void declare_lost(const Trouble& trouble, double now);
  void expect_replacement(const Membership::Change& change, double now);
  void say_farewell();
  void send_all(FrameKind kind, std::string_view body = {});

  CoordinatorOptions options_;
  Log log_;
  std::vector<RankView> ranks_;
  RankLinks links_;
  double heartbeat_timeout_ = 0;     // of ranks that may be lost; 0: there are none
  std::size_t changes_ = 0;          // of the membership, that the views know of
  bool asked_ = false;               // a silent rank 0 for a sign of life
  bool decided_ = false;
  std::atomic<bool> stood_down_{false};
  std::jthread thread_;
};

}  // namespace cohort
