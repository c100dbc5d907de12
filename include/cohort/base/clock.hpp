#pragma once

namespace cohort {

/// Where all of Cohort reads time, so that simulated time can stand in for the machine's. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual double now() const = 0;   ///< seconds since an arbitrary start; never goes back
  virtual void sleep(double seconds) = 0;
  static Clock& steady();                          ///< the machine's monotonic clock
};

/// How a polling wait treats the core: the first polls spin, later ones yield (another rank may own the core), long
/// waits sleep 50 µs at a time. One object per wait.
class Backoff {
 public:
  explicit Backoff(Clock& clock = Clock::steady(), int spins = 64) : clock_(&clock), spins_(spins) {}
  void pause();
  void reset() noexcept { polls_ = 0; }

 private:
  Clock* clock_;
  int spins_;
  int polls_ = 0;
};

}  // namespace cohort
