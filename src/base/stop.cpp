#include "cohort/base/stop.hpp"

namespace cohort {
namespace {

std::atomic<const std::atomic<bool>*> asked{nullptr};

}  // namespace

void listen_for_stop(const std::atomic<bool>* flag) noexcept { asked.store(flag, std::memory_order_release); }

void throw_if_stopped(const char* doing, const std::string& what) {
  const std::atomic<bool>* const flag = asked.load(std::memory_order_acquire);
  if (flag == nullptr || !flag->load(std::memory_order_relaxed)) return;
  throw StopRequested(std::string("stopped as asked while ") + doing + " " + what);
}

}  // namespace cohort
