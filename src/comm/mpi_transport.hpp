#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cohort/comm/transport.hpp"
#include "comm/mpi.hpp"

namespace cohort {

/// How messages to one peer are cut.
struct MessageLimits {
  std::size_t largest;   ///< bytes of a piece
  std::size_t quick;     ///< the same for messages of which the library may keep a copy: pieces that it sends without asking
};

/// A transport over a communicator of its own, with the limits of each rank.
[[nodiscard]] std::unique_ptr<Transport> make_mpi_transport(MpiComm comm, std::vector<MessageLimits> limits);

/// Collective over both sides of `inter`: one group of the parents, then their child. The intercommunicator stays.
[[nodiscard]] std::unique_ptr<Transport> merge_transport(MPI_Comm inter, bool child, std::size_t largest);

}  // namespace cohort
