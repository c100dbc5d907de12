// Environments of launchers, as they are found on machines, and what each means for a program that sees so many ranks.
#include "job/launcher.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "job/start_watch.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;
using Environment = std::map<std::string, std::string>;

struct Case {
  std::string name;
  int ranks;
  Environment variables;
  std::vector<std::string> complaint{};   ///< parts of it; empty: none
};

std::string apart(int ranks, const Environment& variables) {
  return why_apart(ranks, "Open MPI v4.1.4", [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? "" : found->second;
  });
}

const Environment kSrun{{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_STEP_ID", "0"},
                        {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "2"}};
const Environment kBatch{{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}};

Environment with(Environment base, const Environment& more) {
  for (const auto& [name, value] : more) base[name] = value;
  return base;
}

/// The step of a batch script or an interactive shell, where it is told of as well.
Environment step(const char* id, const char* tasks) {
  return with(kBatch, {{"SLURM_STEP_ID", id}, {"SLURM_STEP_NUM_TASKS", tasks}});
}
Environment one_task(const Environment& more) {
  return with(with(kSrun, {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}}), more);
}

const std::vector<Case> kCases = {
    {"no launcher", 1, {}},
    {"mpirun", 4, {{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}, {"PMIX_RANK", "3"}}},
    {"mpirun, one process", 1, {{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_RANK", "0"}}},
    {"another mpirun than the library's", 1, {{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "0"}},
     {"4 processes (OMPI_COMM_WORLD_SIZE)", "MPI knows of 1", "library that this program uses (Open MPI v4.1.4)", "COHORT_ALONE=1"}},
    {"Hydra (MPICH, Intel MPI)", 1, {{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"MPI_LOCALNRANKS", "2"}},
     {"2 processes (PMI_SIZE)", "mpirun"}},
    {"Hydra, and MPICH", 2, {{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"MPI_LOCALNRANKS", "2"}}},
    {"processes of one machine only", 1, {{"MPI_LOCALNRANKS", "3"}}, {"3 processes (MPI_LOCALNRANKS)"}},
    {"a part of the processes of one machine", 8, {{"MPI_LOCALNRANKS", "4"}}},
    {"MVAPICH", 1, {{"MV2_COMM_WORLD_SIZE", "4"}, {"MV2_COMM_WORLD_RANK", "1"}}, {"4 processes (MV2_COMM_WORLD_SIZE)"}},
    {"jsrun", 1, {{"JSM_NAMESPACE_SIZE", "6"}, {"JSM_NAMESPACE_RANK", "1"}}, {"6 processes (JSM_NAMESPACE_SIZE)"}},
    {"a PMIx launcher that MPI did not hear", 1, {{"PMIX_RANK", "3"}, {"PMIX_NAMESPACE", "a-1"}}, {"number 3 (PMIX_RANK)"}},
    {"a PMIx launcher", 4, {{"PMIX_RANK", "3"}, {"PMIX_NAMESPACE", "prterun-1"}}},
    {"PALS", 1, {{"PALS_RANKID", "1"}}, {"number 1 (PALS_RANKID)"}},
    {"ALPS", 1, {{"ALPS_APP_PE", "5"}}, {"number 5 (ALPS_APP_PE)"}},
    {"srun --mpi=none", 1, kSrun, {"4 processes (SLURM_STEP_NUM_TASKS)", "srun --mpi=pmix", "Open MPI v4.1.4"}},
    {"srun --mpi=pmi2", 1, with(kSrun, {{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}}),
     {"4 processes (PMI_SIZE)", "srun --mpi=pmix"}},
    {"srun --mpi=pmix", 4, with(kSrun, {{"PMIX_NAMESPACE", "slurm.pmix.7.0"}, {"PMIX_RANK", "2"}})},
    {"srun --mpi=pmix, not heard", 1, with(kSrun, {{"PMIX_NAMESPACE", "slurm.pmix.7.0"}, {"PMIX_RANK", "2"}}),
     {"SLURM_STEP_NUM_TASKS"}},
    {"srun --mpi=pmix from a process of mpirun", 4,
     with(kSrun, {{"PMIX_NAMESPACE", "slurm.pmix.7.0"}, {"PMIX_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "9"}})},
    {"srun -n 1 in a larger allocation", 1, one_task({})},
    {"a batch script", 1, kBatch},
    {"a batch script whose step is said to be one task", 1, step("4294967291", "1")},
    {"a batch script whose step is said to be the allocation", 1, step("4294967291", "4")},
    {"the shell of salloc as an interactive step", 1, step("4294967290", "4")},
    {"the shell of salloc", 1, {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}}},
    {"mpirun in a batch script", 4, with(step("4294967291", "1"), {{"OMPI_COMM_WORLD_SIZE", "4"}})},
    {"mpirun -n 1 in a batch script, behind a daemon that srun started on each machine", 1,
     with(kSrun, {{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_NAMESPACE", "2034.1"}, {"PMIX_RANK", "0"}})},
    {"another mpirun in a batch script", 1, with(step("4294967291", "1"), {{"PMI_SIZE", "4"}}), {"4 processes (PMI_SIZE)"}},
    {"mpirun in srun -n 1", 4, one_task({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_NAMESPACE", "2034.1"}})},
    {"jobs of their own, by mpirun -n 1 in each task of srun", 1,
     with(kSrun, {{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_NAMESPACE", "2034.1"}})},
    {"jobs of their own, which the user says", 1, with(kSrun, {{"COHORT_ALONE", "1"}})},
    {"which the user denies", 1, with(kSrun, {{"COHORT_ALONE", "0"}}), {"SLURM_STEP_NUM_TASKS"}},
    {"values that are no numbers", 1, {{"OMPI_COMM_WORLD_SIZE", "many"}, {"PMI_SIZE", ""}, {"PMIX_RANK", "-"}}},
};

TEST(Launcher, ProcessesThatMpiDoesNotKnowOfAreNoticedAndNoOthersAre) {
  for (const Case& one : kCases) {
    SCOPED_TRACE(one.name);
    const std::string text = apart(one.ranks, one.variables);
    EXPECT_EQ(text.empty(), one.complaint.empty()) << text;
    for (const std::string& part : one.complaint) EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Launcher, SaysWhichProcessOfHowManyThisIs) {
  const auto of = [](const Environment& variables) {
    const Variables variable = [&](const char* name) {
      const auto found = variables.find(name);
      return found == variables.end() ? "" : found->second;
    };
    return std::pair(launched_number(variable), launched_count(variable));
  };
  using Both = std::pair<std::optional<int>, std::optional<int>>;
  EXPECT_EQ(of({}), Both());
  EXPECT_EQ(of({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "0"}}), Both(3, 4));
  EXPECT_EQ(of(with(kSrun, {{"PMIX_RANK", "2"}, {"PMIX_NAMESPACE", "slurm.pmix.7.0"}})), Both(2, 4));
  EXPECT_EQ(of({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}), Both(1, 2));
  EXPECT_EQ(of({{"OMPI_COMM_WORLD_RANK", "many"}}), Both());
}

TEST(Launcher, MayStartRanksOnOtherMachinesOrNot) {
  for (const char* batch : {"SLURM_JOB_ID", "PBS_NODEFILE", "OMPI_MCA_orte_default_hostfile", "OMPI_MCA_mca_base_param_files"}) unsetenv(batch);
  const auto may = [](const std::vector<std::string>& command) { return StartWatch::may_leave_this_machine(command); };
  EXPECT_FALSE(may({"mpirun", "-n", "4", "cohort", "train", "job.toml"}));
  EXPECT_FALSE(may({"/usr/bin/mpiexec.openmpi", "--oversubscribe", "-n", "4", "cohort"}));
  EXPECT_TRUE(may({"mpirun", "-H", "a,b", "cohort"}));
  EXPECT_TRUE(may({"mpirun", "--host", "a,b", "cohort"}));
  EXPECT_TRUE(may({"mpirun", "-hostfile", "hosts", "cohort"}));
  EXPECT_TRUE(may({"mpirun", "--machinefile", "hosts", "cohort"}));
  EXPECT_TRUE(may({"mpirun", "--mca", "orte_default_hostfile", "hosts", "cohort"}));
  EXPECT_TRUE(may({"srun", "-n", "4", "cohort"}));
  EXPECT_TRUE(may({"sh", "-c", "mpirun -n 4 cohort"}));
  setenv("SLURM_JOB_ID", "7", 1);
  EXPECT_TRUE(may({"mpirun", "-n", "4", "cohort"}));
  unsetenv("SLURM_JOB_ID");
}

}  // namespace
}  // namespace cohort
