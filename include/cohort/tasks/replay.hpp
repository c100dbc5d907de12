#pragma once

#include <cstdint>
#include <vector>

#include "cohort/base/options.hpp"

namespace cohort {

/// The schedule of an updater whose workers send gradients (updater.schedule), and in a replay what learners are like
/// ([updater.replay]): one process computes what so many workers would, in the order that virtual time gives.
struct ReplayOptions {
  bool on = false;                          ///< updater.schedule = "replay"
  int learners = 4;
  std::uint64_t seed = 1;
  double jitter = 0.2;                      ///< a gradient takes 1 ± jitter units of virtual time, uniform
  double stall_probability = 0;             ///< of one gradient, ...
  double stall_factor = 5;                  ///< ... which takes so many times as long
  int slow_learner = -1;                    ///< takes slow_factor times as long for every gradient; -1: none
  double slow_factor = 2;

  ReplayOptions() = default;
  /// `updater`: the [updater] section. Error invalid_argument.
  explicit ReplayOptions(Section& updater);
  /// Of the [updater.replay] section alone.
  void bind(Section& section);
};

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
