#pragma once

#include "train/run.hpp"

namespace cohort {

/// Collective over the whole job. Trains a run whose workers send their gradients to parameter tasks, all its phases. True if all
/// ranks are still there at the end; else nothing collective may follow.
bool train_with_tasks(Run& run);

}  // namespace cohort
