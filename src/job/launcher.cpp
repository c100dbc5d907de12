#include "job/launcher.hpp"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string_view>

namespace cohort {
namespace {

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() ? std::optional(value) : std::nullopt;
}

/// What a launcher says of the processes that it has started.
struct Claim {
  const char* name;
  std::int64_t value;
};

/// How many tasks the job step has, where this process is one that srun has started: the script of a batch job and the shell
/// of an interactive one are steps as well, with the highest numbers that there are, and run one process whatever the size
/// of the allocation (SLURM_NTASKS).
std::optional<Claim> slurm_step(const Variables& variable) {
  constexpr std::int64_t kFirstSpecialStep = 0xffff'fff0;
  const char* const name = "SLURM_STEP_NUM_TASKS";
  const auto tasks = number(variable(name)), step = number(variable("SLURM_STEP_ID"));
  if (!tasks || !number(variable("SLURM_PROCID")) || !step || *step >= kFirstSpecialStep) return {};
  return Claim{name, *tasks};
}

/// Of the nearest launcher. mpirun and mpiexec start their daemons with srun where there is Slurm, and their processes
/// inherit what that has set, so theirs come first; but where Slurm is the PMIx server, srun was the last.
std::optional<Claim> processes_started(const Variables& variable) {
  const std::optional<Claim> slurm = slurm_step(variable);
  if (slurm && variable("PMIX_NAMESPACE").starts_with("slurm.")) return slurm;
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "JSM_NAMESPACE_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"}) {
    if (const auto size = number(variable(name))) return Claim{name, *size};
  }
  return slurm;
}

/// This process's number, of launchers that do not say how many there are.
std::optional<Claim> process_number(const Variables& variable) {
  for (const char* name : {"PMIX_RANK", "PMI_RANK", "PALS_RANKID", "ALPS_APP_PE"}) {
    if (const auto rank = number(variable(name))) return Claim{name, *rank};
  }
  return {};
}

}  // namespace

std::string why_apart(int ranks, const std::string& library, const Variables& variable) {
  const std::string alone = variable("COHORT_ALONE");
  if (!alone.empty() && alone != "0") return {};
  std::string what;
  if (const std::optional<Claim> size = processes_started(variable)) {
    if (size->value <= ranks) return {};
    what = fmt::format("the launcher has started {} processes ({})", size->value, size->name);
  } else if (const std::optional<Claim> rank = process_number(variable)) {
    if (rank->value < ranks) return {};
    what = fmt::format("the launcher has given this process the number {} ({})", rank->value, rank->name);
  } else {
    return {};
  }
  const std::string srun = slurm_step(variable) ? "srun --mpi=pmix, or with " : "";
  return fmt::format("{}, but MPI knows of {} in all, so each would work by itself and not with the others: start them with "
                     "{}the mpirun of the MPI library that this program uses ({}). If they are meant to be jobs of their own, "
                     "set COHORT_ALONE=1",
                     what, ranks, srun, library);
}

std::optional<int> launched_number(const Variables& variable) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const auto rank = number(variable(name))) return static_cast<int>(*rank);
  }
  return {};
}

std::optional<int> launched_count(const Variables& variable) {
  const std::optional<Claim> started = processes_started(variable);
  return started ? std::optional(static_cast<int>(started->value)) : std::nullopt;
}

void close_needless_listeners(bool later) {
  const auto value = [](const char* name) { return environment_variable(name); };
  const std::string here = value("OMPI_COMM_WORLD_LOCAL_SIZE");
  const bool one_machine = here.empty() ? value("SLURM_STEP_NUM_NODES").empty() || value("SLURM_STEP_NUM_NODES") == "1"
                                        : here == value("OMPI_COMM_WORLD_SIZE");
  if (later || !one_machine || !value("OMPI_PARENT_PORT").empty() || !value("OMPI_MCA_mca_base_param_files").empty()) return;
  for (const std::string& file : {value("HOME") + "/.openmpi/mca-params.conf", std::string("/etc/openmpi/openmpi-mca-params.conf")}) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {      // "btl = ^uct,openib": Debian's line, which leaves out what nobody has here
      const bool chosen = (line.starts_with("btl ") || line.starts_with("btl=")) && line.find('^') == std::string::npos;
      if (chosen) return;
    }
  }
  setenv("OMPI_MCA_btl", "self,vader", 0);
}

std::string environment_variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace cohort
