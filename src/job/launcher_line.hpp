#pragma once

#include <sys/types.h>

namespace cohort {

/// True under `srun --mpi=pmix`.
[[nodiscard]] bool started_by_srun();

/// Keeps this process's connection to Slurm open until the job step is over, whatever becomes of the process.
///
/// Under `srun --mpi=pmix` each task has a connection to the PMIx server in Slurm's daemon of its machine. When one closes
/// without MPI_Finalize while other tasks of the machine live, Slurm kills the whole step, a second later and even with
/// --kill-on-bad-exit=0. So a child holds it as well, which does nothing else, ignores signals and goes with the server or
/// with this object. Elsewhere than under srun this does nothing.
class LauncherLine {
 public:
  /// After MPI_Init, and once ranks notice themselves that one of them has gone: Slurm no longer does.
  LauncherLine();
  LauncherLine(const LauncherLine&) = delete;
  LauncherLine& operator=(const LauncherLine&) = delete;
  /// Before MPI_Finalize, with which the launcher learns that all is well.
  ~LauncherLine();

 private:
  pid_t holder_ = -1;
};

}  // namespace cohort
