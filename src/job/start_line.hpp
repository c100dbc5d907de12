#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "job/start_news.hpp"
#include "watch/socket.hpp"

namespace cohort {

/// What a rank says about its start while it may wait for others without end, as in MPI_Init: to the user after 10, 30, 70, … seconds
/// for whom it waits, and to `cohort launch`, if that has started it, how far it is. A thread does this, since nobody else
/// can while MPI_Init does not return; it never calls MPI. In a process that ranks have started in place of one that they have
/// lost it ends the process if they do not meet it in `kMeetSeconds`, for they may have given it up, or gone.
class StartLine {
 public:
  static constexpr double kMeetSeconds = 120;

  /// Before MPI_Init.
  StartLine();
  StartLine(const StartLine&) = delete;
  StartLine& operator=(const StartLine&) = delete;
  ~StartLine() { leave(); }

  void reach(StartStage stage) noexcept;
  /// This rank ends by itself, and says why if that is to be said. Before `_exit`, too: else it counts as one that has died.
  void leave();

 private:
  void run(const std::stop_token& stop);
  void connect();
  void send_news();
  void listen();
  void speak(double waited) const;

  StartNews news_;
  std::string address_;                      // of `cohort launch`; empty: nobody asks
  double first_pause_ = 10;                  // seconds
  bool replacement_;
  std::atomic<StartStage> stage_{StartStage::begun};
  Link link_;
  WakeUp wake_;
  std::jthread thread_;
};

}  // namespace cohort
