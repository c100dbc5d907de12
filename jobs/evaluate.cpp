// Evaluates a checkpoint on the validation data of a job file.
//
//   cohort evaluate jobs/lenet.toml --resume runs/lenet
//   mpirun -n 2 cohort evaluate jobs/lenet.toml --resume runs/lenet/checkpoints/best
#include <fmt/core.h>

#include "cohort/job/job.hpp"
#include "cohort/train/trainer.hpp"

namespace cohort {
namespace {

int run(Communicator& world, JobArguments& arguments) {
  const Evaluation result = evaluate(world, arguments.config, arguments.resume);
  if (world.rank() != 0) return kExitDone;
  fmt::print("{:<14} {:.6f}\n", "loss", result.loss);
  for (const auto& [name, value] : result.metrics) fmt::print("{:<14} {:.6f}\n", name, value);
  fmt::print("{:<14} {}\n", "samples", result.samples);
  return kExitDone;
}

const Registered<JobType> job{"evaluate",
                              {.summary = "evaluates a checkpoint on the validation data of a job file",
                               .argument = JobArgument::job_file,
                               .argument_help = "the job file of the run",
                               .help = "  cohort evaluate jobs/lenet.toml --resume runs/lenet\n"
                                       "  mpirun -n 2 cohort evaluate jobs/lenet.toml --resume runs/lenet/checkpoints/best\n",
                               .resumes = true,
                               .run = run}};

}  // namespace
}  // namespace cohort
