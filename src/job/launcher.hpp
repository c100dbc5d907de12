#pragma once

#include <functional>
#include <string>

namespace cohort {

/// The value of a variable of the environment; empty where it is not set.
using Variables = std::function<std::string(const char* name)>;

/// Empty, or that the launcher has started more processes than MPI_COMM_WORLD has (`ranks`), and what to do about it: each
/// would be a job of its own, without a word. That happens where the launcher speaks another protocol than the MPI `library`
/// ("Open MPI v4.1.4") of this program. Variables that an outer launcher has set are told from those of the nearest;
/// COHORT_ALONE says that the processes are meant to be jobs of their own. Not for one that `Communicator::spawn` started.
[[nodiscard]] std::string why_apart(int ranks, const std::string& library, const Variables& variable);

/// The environment of this process.
[[nodiscard]] std::string environment_variable(const char* name);

}  // namespace cohort
