#pragma once

#include "cohort/comm/communicator.hpp"
#include "cohort/comm/environment.hpp"

namespace cohort::testing {

/// All ranks of the mpirun that runs this test program (cohort_mpi_test). Tests run in the same order on all of them.
[[nodiscard]] Communicator& world();
[[nodiscard]] const Environment& environment();

}  // namespace cohort::testing
