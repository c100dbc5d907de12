#pragma once

#include <mpi.h>

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

/// Owns a communicator. Freeing one is local in the libraries we know; a rank that is unwinding frees nothing, since its
/// peers may not be there any more.
class MpiComm {
 public:
  MpiComm() = default;
  explicit MpiComm(MPI_Comm comm) noexcept : comm_(comm) {}
  MpiComm(MpiComm&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}
  MpiComm& operator=(MpiComm&& other) noexcept {
    std::swap(comm_, other.comm_);
    return *this;
  }
  ~MpiComm();
  [[nodiscard]] MPI_Comm get() const noexcept { return comm_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

}  // namespace cohort
