#pragma once

#include <cstdint>
#include <vector>

#include "cohort/run/replay_options.hpp"

namespace cohort {

/// Virtual time: who finishes its gradient when. How long a gradient takes is a pure function of (seed, origin, learner, number of
/// the learner's gradient since the origin), whatever the order in which anybody asks; those that end at the same time do so in
/// the order in which they were started.
class VirtualTime {
 public:
  explicit VirtualTime(const ReplayOptions& options);

  [[nodiscard]] double now() const noexcept { return now_; }
  [[nodiscard]] bool idle() const noexcept { return queue_.empty(); }
  /// The learner begins a gradient now.
  void start(int learner);
  /// The learner whose gradient is complete first; it is that time now. Precondition: not idle().
  int next();
  /// From here on times are drawn anew, as in a run that begins here. Precondition: idle().
  void begin_at(std::int64_t origin);
  /// How long a gradient takes.
  [[nodiscard]] double duration(int learner, std::int64_t number) const;

 private:
  struct Event {
    double at = 0;
    std::int64_t order = 0;
    int learner = 0;
  };

  ReplayOptions options_;
  std::vector<Event> queue_;                // a heap, the first to finish in front
  std::vector<std::int64_t> numbers_;       // by learner: gradients started since the origin
  std::int64_t origin_ = 0, started_ = 0;
  double now_ = 0;
};

}  // namespace cohort
