#pragma once

#include <functional>
#include <optional>
#include <string>

namespace cohort {

/// The value of a variable of the environment; empty where it is not set.
using Variables = std::function<std::string(const char* name)>;

/// Empty, or that the launcher has started more processes than MPI_COMM_WORLD has (`ranks`), and what to do about it: each
/// would be a job of its own, without a word. That happens where the launcher speaks another protocol than the MPI `library`
/// ("Open MPI v4.1.4") of this program. Variables that an outer launcher has set are told from those of the nearest;
/// COHORT_ALONE says that the processes are meant to be jobs of their own. Not for one that `Communicator::spawn` started.
[[nodiscard]] std::string why_apart(int ranks, const std::string& library, const Variables& variable);

/// This process's number among those that the nearest launcher has started, and how many they are, before MPI says so. Nothing:
/// no launcher says.
[[nodiscard]] std::optional<int> launched_number(const Variables& variable);
[[nodiscard]] std::optional<int> launched_count(const Variables& variable);

/// Before MPI_Init. Open MPI's part for TCP listens at all addresses of a machine, and can be told no better (4.1), so where all
/// processes are on one machine, and shared memory is enough, it is left out, unless the user has said which parts to take, or
/// `later`: processes will be started that are reached by TCP alone.
void close_needless_listeners(bool later);

/// The environment of this process.
[[nodiscard]] std::string environment_variable(const char* name);

}  // namespace cohort
