#include "cohort/tasks/virtual_time.hpp"

#include <algorithm>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"

namespace cohort {
namespace {

/// Uniform in [0, 1), 53 bits.
double uniform(std::uint32_t high, std::uint32_t low) {
  return static_cast<double>((static_cast<std::uint64_t>(high) << 32 | low) >> 11) * 0x1p-53;
}

/// Turned round, since a heap of the library has the largest in front.
constexpr auto kLater = [](const auto& a, const auto& b) { return a.at != b.at ? a.at > b.at : a.order > b.order; };

}  // namespace

VirtualTime::VirtualTime(const ReplayOptions& options) : options_(options), numbers_(static_cast<std::size_t>(options.learners), 0) {}

double VirtualTime::duration(int learner, std::int64_t number) const {
  const std::uint64_t stream = (static_cast<std::uint64_t>(learner) << 40) + static_cast<std::uint64_t>(origin_);
  const auto bits = philox(options_.seed, stream, static_cast<std::uint64_t>(number));
  double time = 1 + options_.jitter * (2 * uniform(bits[0], bits[1]) - 1);
  if (uniform(bits[2], bits[3]) < options_.stall_probability) time *= options_.stall_factor;
  if (learner == options_.slow_learner) time *= options_.slow_factor;
  return time;
}

void VirtualTime::start(int learner) {
  queue_.push_back({now_ + duration(learner, numbers_[static_cast<std::size_t>(learner)]++), started_++, learner});
  std::ranges::push_heap(queue_, kLater);
}

int VirtualTime::next() {
  check(!idle(), Code::internal, "virtual time stands still: no gradient is under way");
  std::ranges::pop_heap(queue_, kLater);
  const Event event = queue_.back();
  queue_.pop_back();
  now_ = event.at;
  return event.learner;
}

void VirtualTime::begin_at(std::int64_t origin) {
  check(idle(), Code::internal, "times cannot be drawn anew while gradients are under way");
  origin_ = origin;
  std::ranges::fill(numbers_, 0);
}

}  // namespace cohort
