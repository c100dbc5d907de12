#include "cohort/run/replay_options.hpp"

#include <string>

#include "cohort/base/error.hpp"

namespace cohort {

ReplayOptions::ReplayOptions(Section& updater) {
  std::string schedule = "live";
  updater.bind("schedule", schedule,
               "live: workers are ranks, and gradients count in the order in which they arrive; replay: one process computes all workers' gradients, in an order "
               "that [updater.replay] draws from a seed", one_of({"live", "replay"}));
  on = schedule == "replay";
  bind(updater.child("replay"));
}

void ReplayOptions::bind(Section& section) {
  section.bind("learners", learners, "workers whose gradients are computed", between(1, 1'000'000));
  section.bind("seed", seed, "of the order");
  section.bind("jitter", jitter, "a gradient takes 1 ± jitter units of virtual time, uniform", between(0, 1));
  section.bind("stall_probability", stall_probability, "that one gradient takes stall_factor times as long", between(0, 1));
  section.bind("stall_factor", stall_factor, "of a gradient that stalls", at_least(1));
  section.bind("slow_learner", slow_learner, "the learner that takes slow_factor times as long for every gradient; -1: none", at_least(-1));
  section.bind("slow_factor", slow_factor, "of slow_learner", at_least(1));
  check(slow_learner < learners, Code::invalid_argument,
        section.path() + ".slow_learner = " + std::to_string(slow_learner) + ": learners are 0 to " + std::to_string(learners - 1));
}

}  // namespace cohort
