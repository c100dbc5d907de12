#pragma once

#include <mpi.h>

#include <atomic>
#include <source_location>
#include <utility>

namespace cohort {

/// A return code of MPI as the library gives it, so that `check` can tell it from other ints.
struct MpiCode {
  int value;
};

/// Throws Error internal with MPI's own text unless the call succeeded: `check(MpiCode{MPI_Barrier(comm)});`
void check(MpiCode code, std::source_location where = std::source_location::current());

/// True between MPI_Init and MPI_Finalize: handles may only be freed then.
[[nodiscard]] bool mpi_running() noexcept;

/// Owns a communicator. Freeing one is local in the libraries we know. It is not freed while the rank unwinds, nor after
/// `leave_to_finalize`: the library would give its number to the next communicator, which then received what is still on
/// its way here.
class MpiComm {
 public:
  MpiComm() = default;
  explicit MpiComm(MPI_Comm comm) noexcept : comm_(comm) {}
  MpiComm(MpiComm&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)), keep_(other.keep_.load()) {}
  MpiComm& operator=(MpiComm&& other) noexcept {
    std::swap(comm_, other.comm_);
    keep_ = other.keep_.exchange(keep_);
    return *this;
  }
  ~MpiComm();
  [[nodiscard]] MPI_Comm get() const noexcept { return comm_; }
  void leave_to_finalize() noexcept { keep_ = true; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::atomic<bool> keep_{false};      // twins of a transport set it
};

}  // namespace cohort
