#pragma once

#include <atomic>
#include <string>

namespace cohort {

/// Makes SIGUSR1, SIGTERM and SIGINT set the flag that is returned; before MPI_Init, during which a launcher may already
/// pass signals on, and before any other thread is made. A second SIGINT ends the process. They are delivered to a thread that does
/// nothing else: a handler that runs on the stack of oneDNN's code for matrix products (2.6) damages the heap (measured: a process
/// died in five of five evaluations in which signals came).
const std::atomic<bool>& catch_stop_signals();

/// The first of these signals that came: its number; 0: none.
[[nodiscard]] int stop_signal() noexcept;

/// "SIGTERM"
[[nodiscard]] std::string name_of_signal(int number);

/// Before MPI_Init. Open MPI 4.1 may write to a rank that has died before it notices that the TCP connection is closed.
/// SIGPIPE would end this process then; and where Open MPI waits with poll, which it does unless told otherwise, its loop
/// would go round for ever over a descriptor that it has closed.
void survive_broken_connections();

/// A write beyond the largest size that the system allows a file (ulimit -f) is an error then, as on a full disk, and not the end of the
/// process by SIGXFSZ.
void survive_full_files();

}  // namespace cohort
