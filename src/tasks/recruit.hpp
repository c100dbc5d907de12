#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "cohort/comm/communicator.hpp"
#include "tasks/introduction.hpp"

namespace cohort {

/// A new process in place of a lost worker, on its way, while the parameter tasks go on with their work. MPI_Comm_spawn returns
/// when the new process has come through its own MPI_Init, and never if it dies before that: nothing can call it back. So a thread
/// of this task's rank waits for it. Where it waits in vain it is left to itself, with all that it uses; the process ends some
/// time by `_exit`, as all do that have lost a rank. Needs an MPI library whose threads may call it at the same time.
class Recruit {
 public:
  enum class State : std::uint8_t { starting, there, failed };

  /// Collective over the tasks. `rank`: whose place it takes; `told`: what it must know.
  Recruit(Communicator& tasks, int rank, Introduction told);
  Recruit(const Recruit&) = delete;
  Recruit& operator=(const Recruit&) = delete;
  /// Gives it up, unless `take` has been called.
  ~Recruit();

  [[nodiscard]] State state() const noexcept { return shared_->state.load(std::memory_order_acquire); }
  /// Why it failed.
  [[nodiscard]] const std::string& error() const noexcept { return shared_->error; }
  /// True where it failed because the launcher starts no further process.
  [[nodiscard]] bool refused() const noexcept { return shared_->refused; }
  /// The tasks and, as the last rank, the new process. Once it is there for the first task; here the thread may still be about to
  /// hear that, or find that the process has died again, which the watchdog says.
  [[nodiscard]] Communicator take();

 private:
  struct Shared {
    Shared(Communicator with, int for_rank, Introduction what) : group(std::move(with)), rank(for_rank), told(std::move(what)) {}
    Communicator group;
    int rank;
    Introduction told;
    std::optional<Communicator> line;       // of the thread, until it has ended; so are
    std::string error;                      // and
    bool refused = false;
    std::atomic<State> state{State::starting};
    std::atomic<bool> given_up{false};
  };
  static void start(Shared& shared);

  std::shared_ptr<Shared> shared_;          // with the thread, which may outlive this
  std::thread thread_;
};

}  // namespace cohort
