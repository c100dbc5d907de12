#pragma once

#include <atomic>

namespace cohort {

/// Makes SIGUSR1, SIGTERM and SIGINT set the flag that is returned; before MPI_Init, during which a launcher may already
/// pass signals on. A second SIGINT ends the process.
const std::atomic<bool>& catch_stop_signals();

}  // namespace cohort
