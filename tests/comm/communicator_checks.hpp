#pragma once

#include "cohort/comm/communicator.hpp"

namespace cohort::testing {

/// What every communicator must do, whatever carries its messages. Each is called by all ranks.
void check_messages(Communicator& communicator);          ///< sizes, order, tags, a receive of the wrong size
void check_control_collectives(Communicator& communicator);
void check_groups(Communicator& communicator);            ///< split, duplicate, nodes
void check_shared_memory(Communicator& communicator);
void check_deadline(Communicator& communicator);          ///< a wait for a rank that never comes names it

}  // namespace cohort::testing
