#pragma once

#include "run/run.hpp"

namespace cohort {

/// Trains a run whose workers exist in virtual time only, all its phases, on the one rank that there is. True: nobody is lost.
bool train_replay(Run& run);

}  // namespace cohort
