#pragma once

#include "run/run.hpp"
#include "tasks/introduction.hpp"

namespace cohort {

/// Collective over the whole job. Trains a run whose workers send their gradients to parameter tasks, all its phases. True if all
/// ranks are still there at the end; else nothing collective may follow.
bool train_with_tasks(Run& run);

/// Of a process that has been started in place of a worker: its work, to the end of the run. `parents`: as `Communicator::spawn` returns it.
void train_in_place_of_worker(Run& run, Communicator& parents, const Introduction& told);

}  // namespace cohort
