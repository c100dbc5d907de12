#include "cohort/base/clock.hpp"

#include <chrono>
#include <thread>

namespace cohort {
namespace {

class SteadyClock final : public Clock {
 public:
  double now() const override {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  void sleep(double seconds) override { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }
};

constexpr int kYields = 4096;        // about 1 ms of yielding before the first sleep
constexpr double kNap = 50e-6;       // short beside a bucket's transfer, long beside a context switch

}  // namespace

Clock& Clock::steady() {
  static SteadyClock clock;
  return clock;
}

void Backoff::pause() {
  if (polls_ < spins_) {
    ++polls_;
  } else if (polls_ < spins_ + kYields) {
    ++polls_;
    std::this_thread::yield();
  } else {
    clock_->sleep(kNap);
  }
}

}  // namespace cohort
