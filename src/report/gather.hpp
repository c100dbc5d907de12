#pragma once

#include <functional>
#include <string>

#include "cohort/comm/communicator.hpp"

namespace cohort {

/// Collective. Rank 0 gets what each rank gave, in rank order and one at a time, so that it never holds more than one: for
/// texts of megabytes, where all_gather would give every rank all of them. A message and a barrier per rank.
void gather_in_turn(Communicator& communicator, const std::string& mine, const std::function<void(int rank, const std::string&)>& take);

}  // namespace cohort
