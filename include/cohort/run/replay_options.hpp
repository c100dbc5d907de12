#pragma once

#include <cstdint>

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

}  // namespace cohort
