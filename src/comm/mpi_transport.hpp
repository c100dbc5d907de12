#pragma once

#include <cstddef>
#include <memory>

#include "cohort/comm/transport.hpp"
#include "comm/mpi.hpp"

namespace cohort {

/// A transport over a communicator of its own. Messages longer than `largest_message` bytes travel in pieces.
[[nodiscard]] std::unique_ptr<Transport> make_mpi_transport(MpiComm comm, std::size_t largest_message);

}  // namespace cohort
