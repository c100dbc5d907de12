#pragma once

#include <atomic>
#include <mutex>

namespace cohort {

/// Keeps the other threads of a process from what Open MPI leaves to any of them in MPI_Comm_spawn.
///
/// Open MPI 4.1 agrees with the new process on a communicator's number in callbacks of its progress loop. Whatever thread is in
/// MPI_Test just then runs them, and each waits in PMIx_Lookup for the new process to answer: for ever, if that has died. So a
/// thread that only asks whether its message has come may stay there, and the healthy job stands still. But there is one such
/// callback at a time: while the thread that spawns waits in it, the others may call MPI_Test as they like. Between such waits
/// they do not; messages rest for the fraction of a millisecond that takes.
///
/// This library has those functions of PMIx that MPI_Comm_spawn waits in; Open MPI finds them before the PMIx library's, and they
/// tell the gate when a wait begins and ends. An Open MPI with a PMIx inside, whose functions have other names, never closes it.
class ProgressGate {
 public:
  /// One for the process, as the progress loop is.
  static ProgressGate& of_process() noexcept;

  /// A call that runs the progress loop, in any thread.
  class Passage {
   public:
    explicit Passage(ProgressGate& gate) noexcept : gate_(gate), free_(!gate.used_.load(std::memory_order_acquire)) {
      locked_ = !free_ && gate.wanted_.load(std::memory_order_acquire) == 0 && gate.mutex_.try_lock();
    }
    Passage(const Passage&) = delete;
    Passage& operator=(const Passage&) = delete;
    ~Passage() {
      if (locked_) gate_.mutex_.unlock();
    }
    /// False while the loop is left to the thread that spawns.
    explicit operator bool() const noexcept { return free_ || locked_; }

   private:
    ProgressGate& gate_;
    bool free_, locked_ = false;
  };

  /// A call of MPI_Comm_spawn and what belongs to it, until the new process and this one have a communicator. In the thread that
  /// makes it.
  class Spawning {
   public:
    explicit Spawning(ProgressGate& gate) noexcept;
    Spawning(const Spawning&) = delete;
    Spawning& operator=(const Spawning&) = delete;
    ~Spawning();

    /// A wait for the new process begins: the others may pass.
    void begin_wait() noexcept;
    /// It has ended: they may not, until the next one begins.
    void end_wait() noexcept;
    /// Within a wait: from here on the waits are callbacks of the progress loop. Open MPI makes one communicator at a time, so this
    /// waits until no other thread is as far; else one would close the gate and wait for another, which cannot come out of its
    /// wait then.
    void connected() noexcept;
    [[nodiscard]] bool is_connected() const noexcept { return connected_; }

   private:
    ProgressGate& gate_;
    bool closed_ = false;
    bool connected_ = false;
    bool counted_ = false;            // in waits_
  };
  /// This thread's, if it is in MPI_Comm_spawn.
  [[nodiscard]] static Spawning* spawning() noexcept;

  /// True while some thread waits for a new process that it has connected to: nobody can make a communicator until it is back.
  [[nodiscard]] bool occupied() const noexcept { return waits_.load(std::memory_order_acquire) > 0; }

 private:
  std::atomic<bool> used_{false};     // from the first spawn on; processes without any pay nothing
  std::atomic<int> wanted_{0};        // a thread that calls MPI_Test in a loop lets those that spawn go first
  std::atomic<int> waits_{0};         // for processes that are connected
  std::mutex mutex_;                  // of the progress loop
  std::mutex turn_;                   // of the thread that has connected to its new process
};

}  // namespace cohort
